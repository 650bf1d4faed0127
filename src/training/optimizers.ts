import { invalidArgument } from "../errors.js";
import { constant, describeSchedule, type Schedule } from "./schedules.js";

/** What turns gradients into new parameters; the arithmetic is native, this is its description. */
export type Optimizer = Sgd;

export interface Sgd {
  readonly kind: "sgd";
  readonly learningRate: Schedule;
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
}

export interface SgdOptions {
  /** A number (constant) or a schedule. Default 0.01. */
  readonly learningRate?: number | Schedule;
  /** From 0 to below 1. Default 0.9. */
  readonly momentum?: number;
  /** Nesterov's momentum; needs a momentum above 0. Default false. */
  readonly nesterov?: boolean;
  /** L2 penalty added to the gradient, of every parameter. Default 0. */
  readonly weightDecay?: number;
}

export const defaultLearningRate = 0.01;

/**
 * Stochastic gradient descent with momentum, as PyTorch's `SGD` without dampening: `v = momentum * v + dw`,
 * `w -= learningRate * v`, where `dw` includes `weightDecay * w`.
 */
export function sgd({
  learningRate = defaultLearningRate,
  momentum = 0.9,
  nesterov = false,
  weightDecay = 0,
}: SgdOptions = {}): Sgd {
  if (!(momentum >= 0 && momentum < 1)) throw invalidArgument("momentum", "a number from 0 to below 1", momentum);
  if (!(weightDecay >= 0 && Number.isFinite(weightDecay))) {
    throw invalidArgument("weightDecay", "a number of at least 0", weightDecay);
  }
  if (nesterov && momentum === 0) throw invalidArgument("momentum", "a number above 0 with nesterov", momentum);
  const schedule = typeof learningRate === "number" ? constant(learningRate) : learningRate;
  return { kind: "sgd", learningRate: schedule, momentum, nesterov, weightDecay };
}

/** In words: `sgd, learning rate 0.05, times 0.4 every epoch, momentum 0.9, weight decay 0.0005`. */
export function describeOptimizer({ kind, learningRate, momentum, nesterov, weightDecay }: Optimizer): string {
  return [
    kind,
    `learning rate ${describeSchedule(learningRate)}`,
    `${nesterov ? "Nesterov " : ""}momentum ${momentum}`,
    ...(weightDecay === 0 ? [] : [`weight decay ${weightDecay}`]),
  ].join(", ");
}
