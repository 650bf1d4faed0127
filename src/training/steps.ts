import { check, kinds } from "../arguments.js";
import { augmentationsJson, resolveAugmentations } from "../data/augmentations.js";
import type { Dataset, EvaluateOptions, Session, TrainRequest } from "../native.js";
import { checkFitOptions, count, type FitOptions } from "./fit-options.js";
import { nativeStep } from "./train-step.js";

/** What a training's steps are, as native code wants to know it. */
export interface Steps {
  /**
   * A run of steps: the first of them, counted from 0, the learning rate of each, and the momentum of each where the
   * schedule moves it.
   */
  request(firstStep: number, learningRates: Float64Array, momenta?: Float64Array): TrainRequest;
  /** How the network is judged: images prepared as in training, by averaged weights where there are some. */
  readonly evaluation: EvaluateOptions;
}

/**
 * Checks what a step is, and computes what is to be known of the training data.
 *
 * @throws FoveaError `INVALID_ARGUMENT` for an option that makes no sense
 */
export async function prepareSteps(session: Session, train: Dataset, options: FitOptions): Promise<Steps> {
  check("train", kinds.dataset, train);
  checkFitOptions(options);
  const { batchSize = 64, shuffle = true, dropLast = false, seed = 0, augment = [] } = options;
  const classWeights = options.classWeights === "balanced" ? balanced(session, train) : options.classWeights;
  const native = { ...nativeStep(session, { ...options, classWeights }), batchSize: count("batchSize", batchSize) };
  const prepared = augmentationsJson(await resolveAugmentations(augment, train));
  const step = { ...native, shuffle, dropLast, seed, ...prepared };
  const evaluation = { ...prepared, averaged: options.ema !== undefined };
  return {
    evaluation,
    request: (firstStep, learningRates, momenta) => ({
      ...step,
      firstStep,
      learningRates,
      ...(momenta && { momenta }),
    }),
  };
}

/** Weights of the data's classes for an output that may have more. */
function balanced(session: Session, train: Dataset): Float32Array {
  const weights = new Float32Array(Math.max(session.outputSize, train.classes));
  weights.set(train.classWeights());
  return weights;
}
