import { invalidArgument } from "../errors.js";
import { describeSchedule, movesMomentum } from "./learning-rate.js";
import { type LearningRateFunction, type Schedule, toSchedule } from "./schedules.js";

/**
 * What turns gradients into new parameters; the arithmetic is native, this is its description: plain data, with which a
 * resumed run goes on.
 */
export type Optimizer = Sgd | Adam | AdamW | RmsProp | Lamb | Lars;

interface OptimizerBase {
  readonly learningRate: Schedule;
  readonly weightDecay: number;
  /** `"norm-and-bias"`: no weight decay for parameters of one dimension, which are biases and those of normalisations. */
  readonly noDecay: "norm-and-bias" | null;
  readonly groups: readonly ParameterGroup[];
}

/** Parameters that are trained in another way than the rest. */
export interface ParameterGroup {
  /** Names of layers (`"fc"`), of what contains them (`"layer1"`), or of single parameters (`"fc.bias"`). */
  readonly layers: readonly string[];
  /** What the learning rate is multiplied with, at least 0. Default 1. */
  readonly learningRateScale?: number;
  /** Instead of the optimizer's. */
  readonly weightDecay?: number;
}

export interface Sgd extends OptimizerBase {
  readonly kind: "sgd";
  readonly momentum: number;
  readonly nesterov: boolean;
}

export interface Adam extends OptimizerBase {
  readonly kind: "adam";
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

export interface AdamW extends OptimizerBase {
  readonly kind: "adamw";
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

export interface RmsProp extends OptimizerBase {
  readonly kind: "rmsprop";
  readonly alpha: number;
  readonly epsilon: number;
  readonly momentum: number;
  readonly centered: boolean;
}

export interface Lamb extends OptimizerBase {
  readonly kind: "lamb";
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

export interface Lars extends OptimizerBase {
  readonly kind: "lars";
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly trust: number;
}

/** Options that every optimizer has. */
export interface OptimizerOptions {
  /** A number (constant), a schedule, or a function of the step. */
  readonly learningRate?: number | Schedule | LearningRateFunction;
  /** At least 0. */
  readonly weightDecay?: number;
  /** Spares parameters of one dimension the weight decay: biases, and those of normalisations. Default: none spared. */
  readonly noDecay?: "norm-and-bias" | null;
  /** Layers that are trained in another way than the rest; the first group that names a parameter has it. */
  readonly groups?: readonly ParameterGroup[];
}

export interface SgdOptions extends OptimizerOptions {
  /** From 0 to below 1. Default 0.9. */
  readonly momentum?: number;
  /** Nesterov's momentum; needs a momentum above 0. Default false. */
  readonly nesterov?: boolean;
}

export interface AdamOptions extends OptimizerOptions {
  /** Of the mean of gradients, from 0 to below 1. Default 0.9. */
  readonly beta1?: number;
  /** Of the mean of their squares, from 0 to below 1. Default 0.999. */
  readonly beta2?: number;
  /** Added to the root of that mean. Default 1e-8, of LAMB 1e-6. */
  readonly epsilon?: number;
}

export interface RmsPropOptions extends OptimizerOptions {
  /** Of the mean of squared gradients, from 0 to below 1. Default 0.99. */
  readonly alpha?: number;
  /** Added to the root of that mean. Default 1e-8. */
  readonly epsilon?: number;
  /** From 0 to below 1. Default 0. */
  readonly momentum?: number;
  /** Whether the mean of gradients is taken off, so that their variance counts. Default false. */
  readonly centered?: boolean;
}

export interface LarsOptions extends SgdOptions {
  /** Share of a layer's norm by which one step may move it. Default 0.001. */
  readonly trust?: number;
}

/** The rate with which each optimizer begins unless told otherwise. */
export const defaultLearningRates = {
  sgd: 0.01,
  adam: 1e-3,
  adamw: 1e-3,
  rmsprop: 0.01,
  lamb: 1e-3,
  lars: 0.1,
} as const;

/**
 * Stochastic gradient descent with momentum, as PyTorch's `SGD` without dampening: `v = momentum * v + dw`,
 * `w -= learningRate * v`, where `dw` includes `weightDecay * w`.
 *
 * @param options `learningRate` (0.01), `momentum` (0.9), `nesterov` (false), `weightDecay` (0), `noDecay`, `groups`
 */
export function sgd({ momentum = 0.9, nesterov = false, ...options }: SgdOptions = {}): Sgd {
  return { kind: "sgd", ...base("sgd", options, 0), ...checkedMomentum(momentum, nesterov) };
}

/**
 * Adam, as PyTorch's: `weightDecay` is added to the gradient (Kingma and Ba 2014, arXiv:1412.6980).
 *
 * @param options `learningRate` (0.001), `beta1` (0.9), `beta2` (0.999), `epsilon` (1e-8), `weightDecay` (0), `noDecay`,
 * `groups`
 */
export function adam(options: AdamOptions = {}): Adam {
  return { kind: "adam", ...base("adam", options, 0), ...checkedMoments(options, 1e-8) };
}

/**
 * Adam whose weight decay acts on the weights themselves, as PyTorch's `AdamW` (Loshchilov and Hutter 2017,
 * arXiv:1711.05101).
 *
 * @param options as {@link adam}'s, but `weightDecay` (0.01)
 */
export function adamw(options: AdamOptions = {}): AdamW {
  return { kind: "adamw", ...base("adamw", options, 0.01), ...checkedMoments(options, 1e-8) };
}

/**
 * Gradients over the root of the mean of their squares, as PyTorch's `RMSprop` (Tieleman and Hinton 2012).
 *
 * @param options `learningRate` (0.01), `alpha` (0.99), `epsilon` (1e-8), `momentum` (0), `centered` (false),
 * `weightDecay` (0), `noDecay`, `groups`
 */
export function rmsprop({
  alpha = 0.99,
  epsilon = 1e-8,
  momentum = 0,
  centered = false,
  ...options
}: RmsPropOptions = {}): RmsProp {
  return {
    kind: "rmsprop",
    ...base("rmsprop", options, 0),
    alpha: share("alpha", alpha),
    epsilon: positive("epsilon", epsilon),
    momentum: share("momentum", momentum),
    centered,
  };
}

/**
 * AdamW with each layer's step scaled to the norm of its weights, for large batches (You et al. 2019, arXiv:1904.00962).
 *
 * @param options as {@link adamw}'s, but `epsilon` (1e-6) and `noDecay` (`"norm-and-bias"`)
 */
export function lamb({ noDecay = "norm-and-bias", ...options }: AdamOptions = {}): Lamb {
  return { kind: "lamb", ...base("lamb", { ...options, noDecay }, 0.01), ...checkedMoments(options, 1e-6) };
}

/**
 * SGD with each layer's step scaled to the norm of its weights, for large batches (You, Gitman and Ginsburg 2017,
 * arXiv:1708.03888).
 *
 * @param options as {@link sgd}'s, but `learningRate` (0.1), `trust` (0.001) and `noDecay` (`"norm-and-bias"`)
 */
export function lars({
  momentum = 0.9,
  nesterov = false,
  trust = 0.001,
  noDecay = "norm-and-bias",
  ...options
}: LarsOptions = {}): Lars {
  return {
    kind: "lars",
    ...base("lars", { ...options, noDecay }, 0),
    ...checkedMomentum(momentum, nesterov),
    trust: positive("trust", trust),
  };
}

/** Every optimizer as it is unless told otherwise. */
export const defaultOptimizers: Readonly<Record<Optimizer["kind"], () => Optimizer>> = {
  sgd,
  adam,
  adamw,
  rmsprop,
  lamb,
  lars,
};

/** An optimizer whose numbers have been checked again, after some of them were replaced. */
export function checkedOptimizer(optimizer: Optimizer): Optimizer {
  switch (optimizer.kind) {
    case "sgd":
      return sgd(optimizer);
    case "adam":
      return adam(optimizer);
    case "adamw":
      return adamw(optimizer);
    case "rmsprop":
      return rmsprop(optimizer);
    case "lamb":
      return lamb(optimizer);
    case "lars":
      return lars(optimizer);
  }
}

/** In words: `sgd, learning rate 0.05, times 0.4 every epoch, momentum 0.9, weight decay 0.0005`. */
export function describeOptimizer(optimizer: Optimizer): string {
  const { kind, learningRate, weightDecay, noDecay } = optimizer;
  const spared = noDecay === null ? "" : " but on norms and biases";
  return [
    kind,
    `learning rate ${describeSchedule(learningRate)}`,
    ...particulars(optimizer),
    ...(weightDecay === 0 ? [] : [`weight decay ${weightDecay}${spared}`]),
    ...optimizer.groups.map(describeGroup),
  ].join(", ");
}

/** `conv1, layer1 at 0.1 of the rate with weight decay 0` */
function describeGroup({ layers, learningRateScale = 1, weightDecay }: ParameterGroup): string {
  const decay = weightDecay === undefined ? "" : ` with weight decay ${weightDecay}`;
  return `${layers.join(" and ")} at ${learningRateScale} of the rate${decay}`;
}

function particulars(optimizer: Optimizer): readonly string[] {
  const { learningRate } = optimizer;
  const moved = movesMomentum(learningRate) ? learningRate.momentum.join(" to ") : undefined;
  switch (optimizer.kind) {
    case "sgd":
    case "lars":
      return [`${optimizer.nesterov ? "Nesterov " : ""}momentum ${moved ?? optimizer.momentum}`];
    case "adam":
    case "adamw":
    case "lamb":
      return [`betas ${moved ?? optimizer.beta1} and ${optimizer.beta2}`];
    case "rmsprop":
      return [
        `${optimizer.centered ? "centred, " : ""}alpha ${optimizer.alpha}`,
        ...(optimizer.momentum === 0 && moved === undefined ? [] : [`momentum ${moved ?? optimizer.momentum}`]),
      ];
  }
}

function base(kind: Optimizer["kind"], options: OptimizerOptions, defaultDecay: number): OptimizerBase {
  const { learningRate = defaultLearningRates[kind], noDecay = null, groups = [] } = options;
  for (const { learningRateScale = 1, weightDecay = 0 } of groups) {
    notNegative("learningRateScale", learningRateScale);
    notNegative("weightDecay", weightDecay);
  }
  const weightDecay = notNegative("weightDecay", options.weightDecay ?? defaultDecay);
  return { learningRate: toSchedule(learningRate), weightDecay, noDecay, groups };
}

function checkedMomentum(momentum: number, nesterov: boolean): Pick<Sgd, "momentum" | "nesterov"> {
  share("momentum", momentum);
  if (nesterov && momentum === 0) throw invalidArgument("momentum", "a number above 0 with nesterov", momentum);
  return { momentum, nesterov };
}

function checkedMoments(
  { beta1 = 0.9, beta2 = 0.999, epsilon }: AdamOptions,
  defaultEpsilon: number,
): Pick<Adam, "beta1" | "beta2" | "epsilon"> {
  return {
    beta1: share("beta1", beta1),
    beta2: share("beta2", beta2),
    epsilon: positive("epsilon", epsilon ?? defaultEpsilon),
  };
}

function share(name: string, value: number): number {
  if (!(value >= 0 && value < 1)) throw invalidArgument(name, "a number from 0 to below 1", value);
  return value;
}

function positive(name: string, value: number): number {
  if (!(value > 0 && Number.isFinite(value))) throw invalidArgument(name, "a positive number", value);
  return value;
}

function notNegative(name: string, value: number): number {
  if (!(value >= 0 && Number.isFinite(value))) throw invalidArgument(name, "a number of at least 0", value);
  return value;
}
