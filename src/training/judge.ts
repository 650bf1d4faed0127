import { invalidArgument } from "../errors.js";
import { type BestEpoch, count, type EpochMetrics, type FitOptions, type FitState } from "./fit-options.js";
import { afterEpoch, initialPlateau, type PlateauState } from "./learning-rate.js";
import type { Metric, Schedule } from "./schedules.js";

/** What an epoch is judged by. */
type Values = Pick<EpochMetrics, Metric>;

/**
 * Judges whole epochs: which is the best, whether patience has ended, and when a plateau schedule drops its rate.
 *
 * The part of an epoch with which a run given in steps may end is not judged, so that a run that goes on from there
 * becomes what one without a stop would have been.
 */
export class Judge {
  readonly #monitor: Metric;
  readonly #patience: number;
  readonly #schedule: Schedule;

  constructor({ monitor, patience, validation }: FitOptions, schedule: Schedule) {
    const watched = schedule.kind === "plateau" ? schedule.monitor : null;
    for (const metric of [monitor, watched]) {
      if (!validation && metric?.startsWith("validation")) {
        throw invalidArgument("monitor", '"trainLoss" without validation data', `"${metric}"`);
      }
    }
    this.#monitor = monitor ?? (validation ? "validationAccuracy" : "trainLoss");
    this.#patience = patience === undefined ? Number.POSITIVE_INFINITY : count("patience", patience);
    this.#schedule =
      schedule.kind === "plateau"
        ? { ...schedule, monitor: watched ?? (validation ? "validationLoss" : "trainLoss") }
        : schedule;
  }

  /** Whether an epoch with these values would be the best. */
  isBest({ best }: FitState, values: Values): boolean {
    const value = values[this.#monitor] ?? Number.NaN;
    if (best === null) return !Number.isNaN(value);
    return this.#monitor === "validationAccuracy" ? value > best.value : value < best.value;
  }

  /** What is to be remembered after a whole epoch. */
  judge(state: FitState, epoch: number, values: Values): { best: BestEpoch | null; plateau: PlateauState | null } {
    const best = this.isBest(state, values) ? { epoch, value: values[this.#monitor] ?? Number.NaN } : state.best;
    const { plateau } = state;
    if (this.#schedule.kind !== "plateau") return { best, plateau };
    const value = values[this.#schedule.monitor ?? "trainLoss"] ?? Number.NaN;
    return { best, plateau: afterEpoch(this.#schedule, plateau ?? initialPlateau, value) };
  }

  /** Whether so many epochs brought no improvement that training is to end. */
  isExhausted({ best }: FitState, epochs: number): boolean {
    return epochs - (best?.epoch ?? 0) >= this.#patience;
  }
}
