import { augmentationsJson, resolveAugmentations } from "../data/augmentations.js";
import { invalidArgument } from "../errors.js";
import type { Dataset, EvaluateOptions, OptimizerOptions, Session, TrainRequest } from "../native.js";
import { count, type FitOptions } from "./fit-options.js";
import { type Optimizer, sgd } from "./optimizers.js";

/** What a training's steps are, as native code wants to know it. */
export interface Steps {
  /** A run of steps: the first of them, counted from 0, and the learning rate of each. */
  request(firstStep: number, learningRates: Float64Array): TrainRequest;
  /** How images are prepared that the network is judged by. */
  readonly evaluation: EvaluateOptions;
}

/**
 * Checks what a step is, and computes what is to be known of the training data.
 *
 * @throws FoveaError `INVALID_ARGUMENT` for an option that makes no sense
 */
export async function prepareSteps(_session: Session, train: Dataset, options: FitOptions): Promise<Steps> {
  const { optimizer = sgd(), batchSize = 64, labelSmoothing = 0 } = options;
  const { shuffle = true, dropLast = false, seed = 0, augment = [] } = options;
  count("batchSize", batchSize);
  if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
    throw invalidArgument("labelSmoothing", "a number from 0 to below 1", labelSmoothing);
  }
  const evaluation = augmentationsJson(await resolveAugmentations(augment, train));
  const step = { batchSize, optimizer: nativeOptimizer(optimizer, labelSmoothing), shuffle, dropLast, seed };
  return { evaluation, request: (firstStep, learningRates) => ({ ...step, ...evaluation, firstStep, learningRates }) };
}

function nativeOptimizer(optimizer: Optimizer, labelSmoothing: number): OptimizerOptions {
  const { kind, weightDecay } = optimizer;
  const momentum = "momentum" in optimizer ? optimizer.momentum : 0;
  const nesterov = "nesterov" in optimizer && optimizer.nesterov;
  return { kind, momentum, nesterov, weightDecay, labelSmoothing };
}
