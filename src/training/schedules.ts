import { invalidArgument } from "../errors.js";

/**
 * How the learning rate moves over a run.
 *
 * A schedule is its own description: plain data that goes into a run's `config.json` and comes back from it, so a
 * resumed run continues on the same curve. A function of the step is the exception, see {@link FunctionSchedule}.
 * `learning-rate.ts` turns schedules into numbers.
 */
export type Schedule =
  | ConstantSchedule
  | StepSchedule
  | MultiStepSchedule
  | CosineSchedule
  | OneCycleSchedule
  | PolynomialSchedule
  | InverseSchedule
  | PlateauSchedule
  | FunctionSchedule;

interface ScheduleBase {
  /** The base learning rate; of a one-cycle schedule the highest. */
  readonly rate: number;
  /** Steps over which the rate first rises linearly from `rate / warmup` to `rate`; 0 for none. */
  readonly warmup: number;
}

export interface ConstantSchedule extends ScheduleBase {
  readonly kind: "constant";
}

/** What the moments of a schedule are counted in. */
export type ScheduleUnit = "epochs" | "steps";

export interface StepSchedule extends ScheduleBase {
  readonly kind: "step";
  /** Epochs, or steps, between two drops. */
  readonly every: number;
  readonly unit: ScheduleUnit;
  /** What the rate is multiplied with at each drop. */
  readonly factor: number;
}

export interface MultiStepSchedule extends ScheduleBase {
  readonly kind: "multi-step";
  /** The epochs, or steps, after which the rate drops, in rising order. */
  readonly milestones: readonly number[];
  readonly unit: ScheduleUnit;
  /** What the rate is multiplied with at each drop. */
  readonly factor: number;
}

export interface CosineSchedule extends ScheduleBase {
  readonly kind: "cosine";
  /** The rate that the curve approaches at the end of the run. */
  readonly final: number;
}

export interface OneCycleSchedule extends ScheduleBase {
  readonly kind: "one-cycle";
  /** Share of the run in which the rate rises. */
  readonly rise: number;
  /** The highest rate over the first one. */
  readonly initialDivisor: number;
  /** The first rate over the last one. */
  readonly finalDivisor: number;
  /** The form of both ways. */
  readonly anneal: "cosine" | "linear";
  /** The lowest and the highest momentum, which falls while the rate rises; null for the optimizer's own. */
  readonly momentum: readonly [number, number] | null;
}

export interface PolynomialSchedule extends ScheduleBase {
  readonly kind: "polynomial";
  readonly power: number;
  /** The rate that the curve approaches at the end of the run. */
  readonly final: number;
}

export interface InverseSchedule extends ScheduleBase {
  readonly kind: "inverse";
  /** The rate is halved after `1 / decay` steps, is a third after twice as many, and so on. */
  readonly decay: number;
}

export interface PlateauSchedule extends ScheduleBase {
  readonly kind: "plateau";
  /** What the rate is multiplied with at each drop. */
  readonly factor: number;
  /** Epochs without improvement that are let pass; the next one brings the drop. */
  readonly patience: number;
  /** Share of the best value by which another must be better to count. */
  readonly threshold: number;
  /** Epochs after a drop that are not counted. */
  readonly cooldown: number;
  /** The rate never drops below this. */
  readonly minimum: number;
  /** What is watched; null for the validation loss where there is validation data, else the training loss. */
  readonly monitor: Metric | null;
}

/**
 * A rate computed by the caller. It cannot be written to a file: whoever resumes such a training gives the function
 * again, and a run of the command line, which resumes from its `config.json` alone, cannot have one.
 */
export interface FunctionSchedule {
  readonly kind: "function";
  readonly at: LearningRateFunction;
}

/** The learning rate of a step, counted from 0; must depend on nothing else, so that a resumed run gets the same. */
export type LearningRateFunction = (step: number, length: RunLength) => number;

/** What an epoch can be judged by. */
export type Metric = "trainLoss" | "validationLoss" | "validationAccuracy";

/** The length of a run, as schedules see it. */
export interface RunLength {
  readonly steps: number;
  readonly stepsPerEpoch: number;
}

export interface ScheduleOptions {
  /** Steps of linear warm-up before the schedule proper begins. Default 0. */
  readonly warmup?: number;
}

/** The same learning rate at every step. */
export function constant(rate: number, { warmup = 0 }: ScheduleOptions = {}): ConstantSchedule {
  return { kind: "constant", ...checkedBase(rate, warmup) };
}

/** Options of {@link step}. */
export interface StepOptions extends ScheduleOptions {
  /** Epochs, or steps, between two drops. */
  readonly every: number;
  /** Default `"epochs"`. */
  readonly unit?: ScheduleUnit;
  /** Default 0.1. */
  readonly factor?: number;
}

/** Multiplies the rate with `factor` after every `every` epochs, as PyTorch's `StepLR`. */
export function step(rate: number, { every, unit = "epochs", factor = 0.1, warmup = 0 }: StepOptions): StepSchedule {
  const base = checkedBase(rate, warmup);
  return {
    kind: "step",
    ...base,
    every: positive("every", every, ` of ${unit}`),
    unit,
    factor: positive("factor", factor),
  };
}

/** Options of {@link multiStep}. */
export interface MultiStepOptions extends ScheduleOptions {
  /** The epochs, or steps, after which the rate drops, in rising order. */
  readonly milestones: readonly number[];
  /** Default `"epochs"`. */
  readonly unit?: ScheduleUnit;
  /** Default 0.1. */
  readonly factor?: number;
}

/** Multiplies the rate with `factor` at each of the milestones, as PyTorch's `MultiStepLR`. */
export function multiStep(
  rate: number,
  { milestones, unit = "epochs", factor = 0.1, warmup = 0 }: MultiStepOptions,
): MultiStepSchedule {
  const rising = milestones.every((milestone, index) => milestone > (milestones[index - 1] ?? 0));
  if (milestones.length === 0 || !rising) {
    throw invalidArgument("milestones", `rising numbers of ${unit}`, `[${milestones.join(", ")}]`);
  }
  const base = checkedBase(rate, warmup);
  return { kind: "multi-step", ...base, milestones: [...milestones], unit, factor: positive("factor", factor) };
}

/**
 * Half a cosine from `rate` down to `final` (default 0) over the whole run, as PyTorch's `CosineAnnealingLR` with
 * `T_max` the number of steps.
 */
export function cosine(
  rate: number,
  { warmup = 0, final = 0 }: ScheduleOptions & { readonly final?: number } = {},
): CosineSchedule {
  return { kind: "cosine", ...checkedBase(rate, warmup), final: checkedFinal(rate, final) };
}

/** Options of {@link oneCycle}; the defaults are PyTorch's. */
export interface OneCycleOptions {
  /** Share of the run in which the rate rises, from above 0 to below 1. Default 0.3. */
  readonly rise?: number;
  /** The highest rate over the first one. Default 25. */
  readonly initialDivisor?: number;
  /** The first rate over the last one. Default 10,000. */
  readonly finalDivisor?: number;
  /** The form of both ways. Default `"cosine"`. */
  readonly anneal?: "cosine" | "linear";
  /**
   * The lowest and the highest momentum (of Adam, AdamW and LAMB beta1), which falls while the rate rises and rises while
   * it falls; PyTorch's are `[0.85, 0.95]`. Default null: it stays the optimizer's.
   */
  readonly momentum?: readonly [lowest: number, highest: number] | null;
}

/**
 * Up to `peak` and down again to almost nothing over the whole run, as PyTorch's `OneCycleLR`, which moves the momentum
 * against it only where that is asked for (Smith and Topin 2017, arXiv:1708.07120).
 */
export function oneCycle(
  peak: number,
  { rise = 0.3, initialDivisor = 25, finalDivisor = 1e4, anneal = "cosine", momentum = null }: OneCycleOptions = {},
): OneCycleSchedule {
  if (!(rise > 0 && rise < 1)) throw invalidArgument("rise", "a share between 0 and 1", rise);
  if (momentum !== null && !(momentum[0] > 0 && momentum[0] <= momentum[1] && momentum[1] < 1)) {
    throw invalidArgument("momentum", "a lowest and a highest between 0 and 1", `[${momentum.join(", ")}]`);
  }
  return {
    kind: "one-cycle",
    ...checkedBase(peak, 0),
    rise,
    initialDivisor: positive("initialDivisor", initialDivisor),
    finalDivisor: positive("finalDivisor", finalDivisor),
    anneal,
    momentum,
  };
}

/** Options of {@link polynomial}. */
export interface PolynomialOptions extends ScheduleOptions {
  /** 1 falls in a straight line. Default 1. */
  readonly power?: number;
  /** Default 0. */
  readonly final?: number;
}

/**
 * From `rate` to `final` over the whole run by `(1 - progress) ** power`, as PyTorch's `PolynomialLR` with `total_iters`
 * the number of steps.
 */
export function polynomial(
  rate: number,
  { power = 1, final = 0, warmup = 0 }: PolynomialOptions = {},
): PolynomialSchedule {
  const base = checkedBase(rate, warmup);
  return { kind: "polynomial", ...base, power: positive("power", power), final: checkedFinal(rate, final) };
}

/**
 * `rate / (1 + decay * step)`: it falls without knowing how long the run is, so a run can be made longer later on the same
 * curve. The classical rate of stochastic approximation (Robbins and Monro 1951), Caffe's "inv" with power 1.
 */
export function inverse(
  rate: number,
  { decay, warmup = 0 }: ScheduleOptions & { readonly decay: number },
): InverseSchedule {
  return { kind: "inverse", ...checkedBase(rate, warmup), decay: positive("decay", decay) };
}

/** Options of {@link plateau}; the defaults are PyTorch's. */
export interface PlateauOptions extends ScheduleOptions {
  /** What the rate is multiplied with at each drop, between 0 and 1. Default 0.1. */
  readonly factor?: number;
  /** Epochs without improvement that are let pass. Default 10. */
  readonly patience?: number;
  /** Share of the best value by which another must be better to count. Default 0.0001. */
  readonly threshold?: number;
  /** Epochs after a drop that are not counted. Default 0. */
  readonly cooldown?: number;
  /** The rate never drops below this. Default 0. */
  readonly minimum?: number;
  /** What is watched. Default: the validation loss where there is validation data, else the training loss. */
  readonly monitor?: Metric;
}

/** Drops when whole epochs bring no improvement any more, as PyTorch's `ReduceLROnPlateau`. */
export function plateau(
  rate: number,
  {
    factor = 0.1,
    patience = 10,
    threshold = 1e-4,
    cooldown = 0,
    minimum = 0,
    monitor,
    warmup = 0,
  }: PlateauOptions = {},
): PlateauSchedule {
  if (!(factor > 0 && factor < 1)) throw invalidArgument("factor", "a number between 0 and 1", factor);
  if (!(threshold >= 0 && threshold < 1)) throw invalidArgument("threshold", "a number from 0 to below 1", threshold);
  if (!(minimum >= 0 && minimum <= rate)) throw invalidArgument("minimum", `a rate between 0 and ${rate}`, minimum);
  return {
    kind: "plateau",
    ...checkedBase(rate, warmup),
    factor,
    patience: epochs("patience", patience),
    threshold,
    cooldown: epochs("cooldown", cooldown),
    minimum,
    monitor: monitor ?? null,
  };
}

/** The schedule that a learning rate given as number, function or schedule stands for. */
export function toSchedule(learningRate: number | LearningRateFunction | Schedule): Schedule {
  if (typeof learningRate === "number") return constant(learningRate);
  return typeof learningRate === "function" ? { kind: "function", at: learningRate } : learningRate;
}

/** The same curve with another base rate and warm-up. */
export function rebased(schedule: Exclude<Schedule, FunctionSchedule>, rate: number, warmup: number): Schedule {
  if (schedule.kind === "one-cycle" && warmup > 0) {
    throw invalidArgument("warmup", "no warm-up with a one-cycle schedule, which begins low itself", warmup);
  }
  if ("final" in schedule) checkedFinal(rate, schedule.final);
  return { ...schedule, ...checkedBase(rate, warmup) };
}

function checkedBase(rate: number, warmup: number): ScheduleBase {
  positive("learningRate", rate);
  if (!(Number.isInteger(warmup) && warmup >= 0)) throw invalidArgument("warmup", "a number of steps", warmup);
  return { rate, warmup };
}

function checkedFinal(rate: number, final: number): number {
  if (!(final >= 0 && final <= rate)) throw invalidArgument("final", `a rate between 0 and ${rate}`, final);
  return final;
}

function positive(name: string, value: number, unit = ""): number {
  if (value > 0 && Number.isFinite(value)) return value;
  throw invalidArgument(name, `a positive number${unit}`, value);
}

function epochs(name: string, value: number): number {
  if (!(Number.isInteger(value) && value >= 0)) throw invalidArgument(name, "a number of epochs", value);
  return value;
}
