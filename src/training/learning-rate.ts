/** What schedules come to: the learning rate and momentum of every step, and their words. */
import { FoveaError } from "../errors.js";
import type { OneCycleSchedule, PlateauSchedule, RunLength, Schedule, ScheduleUnit } from "./schedules.js";

/** Where a plateau schedule stands; plain JSON, part of a checkpoint. */
export interface PlateauState {
  /** What all drops so far multiply the rate with. */
  readonly scale: number;
  /** The best value seen; null before the first epoch. */
  readonly best: number | null;
  /** Epochs without improvement since the best, or since a drop. */
  readonly waited: number;
  /** Epochs left that are not counted. */
  readonly cooling: number;
}

export const initialPlateau: PlateauState = { scale: 1, best: null, waited: 0, cooling: 0 };

/**
 * The learning rate of a step, counted from 0.
 *
 * @param plateau where a plateau schedule stands; others need none
 * @throws FoveaError `INVALID_ARGUMENT` when a function of the step gives no rate
 */
export function learningRateAt(
  schedule: Schedule,
  step: number,
  length: RunLength,
  plateau: PlateauState = initialPlateau,
): number {
  if (schedule.kind === "function") return given(schedule.at(step, length), step);
  const { rate, warmup } = schedule;
  if (step < warmup) return (rate * (step + 1)) / warmup;
  const passed = (amount: number, unit: ScheduleUnit): number =>
    unit === "steps" ? step / amount : step / (amount * length.stepsPerEpoch);
  const progress = Math.min(1, (step - warmup) / Math.max(1, length.steps - warmup));
  switch (schedule.kind) {
    case "constant":
      return rate;
    case "step":
      return rate * schedule.factor ** Math.floor(passed(schedule.every, schedule.unit));
    case "multi-step": {
      const { milestones, unit, factor } = schedule;
      return rate * factor ** milestones.filter((milestone) => passed(milestone, unit) >= 1).length;
    }
    case "cosine":
      return schedule.final + ((rate - schedule.final) * (1 + Math.cos(Math.PI * progress))) / 2;
    case "one-cycle": {
      const first = rate / schedule.initialDivisor;
      return oneCycleAt(schedule, step, length.steps, [first, rate, first / schedule.finalDivisor]);
    }
    case "polynomial":
      return schedule.final + (rate - schedule.final) * (1 - progress) ** schedule.power;
    case "inverse":
      return rate / (1 + schedule.decay * (step - warmup));
    case "plateau":
      return Math.max(schedule.minimum, rate * plateau.scale);
  }
}

function given(rate: number, step: number): number {
  if (Number.isFinite(rate) && rate >= 0) return rate;
  throw new FoveaError(
    "INVALID_ARGUMENT",
    `Expected a number of at least 0 from the learning rate's function at step ${step} but received ${rate}.`,
  );
}

/** A schedule that moves the momentum, too. */
interface MomentumCycle extends OneCycleSchedule {
  readonly momentum: readonly [number, number];
}

/** Whether a schedule moves the momentum; otherwise it is the optimizer's. */
export function movesMomentum(schedule: Schedule): schedule is MomentumCycle {
  // The configuration of an older run has no such key.
  return schedule.kind === "one-cycle" && Array.isArray(schedule.momentum);
}

/** The momentum of a step, counted from 0; of optimizers that have a beta1 it is that. */
export function momentumAt(schedule: MomentumCycle, step: number, { steps }: RunLength): number {
  const [lowest, highest] = schedule.momentum;
  return oneCycleAt(schedule, step, steps, [highest, lowest, highest]);
}

/** From the first value over the middle one to the last, as the cycle's form has it. */
function oneCycleAt(
  { rise, anneal }: OneCycleSchedule,
  step: number,
  steps: number,
  [first, middle, last]: readonly [number, number, number],
): number {
  const top = rise * steps - 1;
  const between = (from: number, to: number, way: number): number =>
    anneal === "linear" ? from + (to - from) * way : to + ((from - to) * (1 + Math.cos(Math.PI * way))) / 2;
  if (top > 0 && step <= top) return between(first, middle, step / top);
  return between(middle, last, Math.min(1, (step - top) / Math.max(1, steps - 1 - top)));
}

/** Takes the value of the metric after a whole epoch into account. */
export function afterEpoch(schedule: PlateauSchedule, state: PlateauState, value: number): PlateauState {
  const { monitor, factor, patience, threshold, cooldown } = schedule;
  const rises = monitor === "validationAccuracy";
  const better =
    state.best === null || (rises ? value > state.best * (1 + threshold) : value < state.best * (1 - threshold));
  const cooling = Math.max(0, state.cooling - 1);
  const waited = better || state.cooling > 0 ? 0 : state.waited + 1;
  const best = better ? value : state.best;
  return waited > patience
    ? { scale: state.scale * factor, best, waited: 0, cooling: cooldown }
    : { scale: state.scale, best, waited, cooling };
}

/** In words: `0.05, times 0.4 every epoch`. */
export function describeSchedule(schedule: Schedule): string {
  if (schedule.kind === "function") return "by a function of the step";
  const { rate, warmup } = schedule;
  const warm = warmup === 0 ? "" : ` after ${warmup} steps of warm-up`;
  return `${rate}${warm}${course(schedule)}`;
}

function course(schedule: Exclude<Schedule, { kind: "function" }>): string {
  switch (schedule.kind) {
    case "constant":
      return "";
    case "step": {
      const { every, factor, unit } = schedule;
      return `, times ${factor} every ${every === 1 ? unit.slice(0, -1) : `${every} ${unit}`}`;
    }
    case "multi-step": {
      const { milestones, factor, unit } = schedule;
      return `, times ${factor} after ${milestones.join(", ")} ${unit}`;
    }
    case "cosine":
      return `, by a cosine to ${schedule.final}`;
    case "one-cycle": {
      const { rate, rise, initialDivisor } = schedule;
      return ` at the top of one cycle, from ${short(rate / initialDivisor)} over ${short(100 * rise)} % of the run`;
    }
    case "polynomial": {
      const { power, final } = schedule;
      return power === 1 ? `, in a straight line to ${final}` : `, by a polynomial of power ${power} to ${final}`;
    }
    case "inverse":
      return `, halved after ${short(1 / schedule.decay)} steps and so on inversely`;
    case "plateau": {
      const { factor, patience } = schedule;
      return `, times ${factor} after more than ${patience} epochs without improvement`;
    }
  }
}

function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}
