import { augmentationsJson } from "../data/augmentations.js";
import { invalidArgument } from "../errors.js";
import type { OptimizerOptions, Session, TrainRequest } from "../native.js";
import { count, type FitOptions } from "./fit-options.js";
import { type Optimizer, sgd } from "./optimizers.js";

/**
 * Checks what a step is, and gives what makes requests for runs of them.
 *
 * @throws FoveaError `INVALID_ARGUMENT` for an option that makes no sense
 */
export function requestMaker(
  _session: Session,
  {
    optimizer = sgd(),
    batchSize = 64,
    labelSmoothing = 0,
    shuffle = true,
    dropLast = false,
    seed = 0,
    augment,
  }: FitOptions,
): (firstStep: number, learningRates: Float64Array) => TrainRequest {
  count("batchSize", batchSize);
  if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
    throw invalidArgument("labelSmoothing", "a number from 0 to below 1", labelSmoothing);
  }
  const native = nativeOptimizer(optimizer, labelSmoothing);
  const step = { batchSize, optimizer: native, shuffle, dropLast, seed, ...augmentationsJson(augment) };
  return (firstStep, learningRates) => ({ ...step, firstStep, learningRates });
}

function nativeOptimizer(optimizer: Optimizer, labelSmoothing: number): OptimizerOptions {
  const { kind, weightDecay } = optimizer;
  const momentum = "momentum" in optimizer ? optimizer.momentum : 0;
  const nesterov = "nesterov" in optimizer && optimizer.nesterov;
  return { kind, momentum, nesterov, weightDecay, labelSmoothing };
}
