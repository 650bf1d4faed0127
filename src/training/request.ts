import type { OptimizerOptions } from "../native.js";
import type { Optimizer } from "./optimizers.js";

/** An optimizer as native code wants it. */
export function nativeOptimizer(optimizer: Optimizer, labelSmoothing: number): OptimizerOptions {
  const { kind, weightDecay } = optimizer;
  const momentum = "momentum" in optimizer ? optimizer.momentum : 0;
  const nesterov = "nesterov" in optimizer && optimizer.nesterov;
  return { kind, momentum, nesterov, weightDecay, labelSmoothing };
}
