import { augmentationsJson, resolveAugmentations } from "../data/augmentations.js";
import type { Dataset, EvaluateOptions, Session, TrainRequest } from "../native.js";
import { count, type FitOptions } from "./fit-options.js";
import { nativeStep } from "./train-step.js";

/** What a training's steps are, as native code wants to know it. */
export interface Steps {
  /** A run of steps: the first of them, counted from 0, and the learning rate of each. */
  request(firstStep: number, learningRates: Float64Array): TrainRequest;
  /** How the network is judged: images prepared as in training, by averaged weights where there are some. */
  readonly evaluation: EvaluateOptions;
}

/**
 * Checks what a step is, and computes what is to be known of the training data.
 *
 * @throws FoveaError `INVALID_ARGUMENT` for an option that makes no sense
 */
export async function prepareSteps(session: Session, train: Dataset, options: FitOptions): Promise<Steps> {
  const { batchSize = 64, shuffle = true, dropLast = false, seed = 0, augment = [] } = options;
  const native = { ...nativeStep(session, options), batchSize: count("batchSize", batchSize) };
  const prepared = augmentationsJson(await resolveAugmentations(augment, train));
  const step = { ...native, shuffle, dropLast, seed, ...prepared };
  const evaluation = { ...prepared, averaged: options.ema !== undefined };
  return { evaluation, request: (firstStep, learningRates) => ({ ...step, firstStep, learningRates }) };
}
