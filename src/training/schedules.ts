import { invalidArgument } from "../errors.js";

/**
 * How the learning rate moves over a run.
 *
 * A schedule is its own description: plain data that goes into a run's `config.json` and comes back from it, so a
 * resumed run continues on the same curve. [`learningRateAt`] turns it into a number.
 */
export type Schedule = ConstantSchedule | CosineSchedule | InverseSchedule | StepSchedule;

interface ScheduleBase {
  /** The base learning rate. */
  readonly rate: number;
  /** Steps over which the rate first rises linearly from `rate / warmup` to `rate`; 0 for none. */
  readonly warmup: number;
}

export interface ConstantSchedule extends ScheduleBase {
  readonly kind: "constant";
}

export interface CosineSchedule extends ScheduleBase {
  readonly kind: "cosine";
  /** The rate that the curve approaches at the end of the run. */
  readonly final: number;
}

export interface InverseSchedule extends ScheduleBase {
  readonly kind: "inverse";
  /** The rate is halved after `1 / decay` steps, is a third after twice as many, and so on. */
  readonly decay: number;
}

export interface StepSchedule extends ScheduleBase {
  readonly kind: "step";
  /** Epochs between two drops. */
  readonly every: number;
  /** What the rate is multiplied with at each drop. */
  readonly factor: number;
}

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

/**
 * Half a cosine from `rate` down to `final` (default 0) over the whole run, as PyTorch's `CosineAnnealingLR` with
 * `T_max` the number of steps.
 */
export function cosine(
  rate: number,
  { warmup = 0, final = 0 }: ScheduleOptions & { readonly final?: number } = {},
): CosineSchedule {
  if (!(final >= 0 && final <= rate)) throw invalidArgument("final", `a rate between 0 and ${rate}`, final);
  return { kind: "cosine", ...checkedBase(rate, warmup), final };
}

/**
 * `rate / (1 + decay * step)`: it falls without knowing how long the run is, so a run can be made longer later on the same
 * curve. The classical rate of stochastic approximation (Robbins and Monro 1951), Caffe's "inv" with power 1.
 */
export function inverse(
  rate: number,
  { decay, warmup = 0 }: ScheduleOptions & { readonly decay: number },
): InverseSchedule {
  if (!(decay > 0 && Number.isFinite(decay))) throw invalidArgument("decay", "a positive number", decay);
  return { kind: "inverse", ...checkedBase(rate, warmup), decay };
}

/** Multiplies the rate with `factor` (default 0.1) after every `every` epochs, as PyTorch's `StepLR`. */
export function step(
  rate: number,
  { every, factor = 0.1, warmup = 0 }: ScheduleOptions & { readonly every: number; readonly factor?: number },
): StepSchedule {
  if (!(every > 0 && Number.isFinite(every))) throw invalidArgument("every", "a positive number of epochs", every);
  if (!(factor > 0 && Number.isFinite(factor))) throw invalidArgument("factor", "a positive number", factor);
  return { kind: "step", ...checkedBase(rate, warmup), every, factor };
}

/** The learning rate of a step, counted from 0. */
export function learningRateAt(schedule: Schedule, step: number, length: RunLength): number {
  const { rate, warmup } = schedule;
  if (step < warmup) return (rate * (step + 1)) / warmup;
  switch (schedule.kind) {
    case "constant":
      return rate;
    case "cosine": {
      const progress = (step - warmup) / Math.max(1, length.steps - warmup);
      return schedule.final + ((rate - schedule.final) * (1 + Math.cos(Math.PI * progress))) / 2;
    }
    case "inverse":
      return rate / (1 + schedule.decay * (step - warmup));
    case "step":
      return rate * schedule.factor ** Math.floor(step / (schedule.every * length.stepsPerEpoch));
  }
}

/** In words: `0.05, times 0.4 every epoch`. */
export function describeSchedule(schedule: Schedule): string {
  const { kind, rate, warmup } = schedule;
  const warm = warmup === 0 ? "" : ` after ${warmup} steps of warm-up`;
  switch (kind) {
    case "constant":
      return `${rate}${warm}`;
    case "cosine":
      return `${rate}${warm}, by a cosine to ${schedule.final}`;
    case "inverse":
      return `${rate}${warm}, halved after ${1 / schedule.decay} steps and so on inversely`;
    case "step": {
      const { every, factor } = schedule;
      return `${rate}${warm}, times ${factor} every ${every === 1 ? "epoch" : `${every} epochs`}`;
    }
  }
}

function checkedBase(rate: number, warmup: number): ScheduleBase {
  if (!(rate > 0 && Number.isFinite(rate))) throw invalidArgument("learningRate", "a positive number", rate);
  if (!(Number.isInteger(warmup) && warmup >= 0)) throw invalidArgument("warmup", "a number of steps", warmup);
  return { rate, warmup };
}
