/** What goes into training and what comes out of it. */
import { checkedOptions, checkOptional, type Kind, kinds } from "../arguments.js";
import type { Augmentation } from "../data/augmentations.js";
import { FoveaError, invalidArgument } from "../errors.js";
import type { Dataset, Evaluation } from "../native.js";
import { hasNumbers, parseJson } from "./json.js";
import type { PlateauState } from "./learning-rate.js";
import type { Metric, RunLength } from "./schedules.js";
import type { StepOptions } from "./train-step.js";

export interface FitOptions extends Omit<StepOptions, "classWeights"> {
  /**
   * A factor of each class's cross-entropy, at least 0; `"balanced"`: those under which every class counts the same,
   * `train.classWeights()`. Default: all 1.
   */
  readonly classWeights?: "balanced" | StepOptions["classWeights"];
  /** Passes over the training data, counted from the beginning of the run. Default 10, unless `steps` is given. */
  readonly epochs?: number | undefined;
  /** Batches, counted from the beginning of the run; instead of `epochs`. */
  readonly steps?: number | undefined;
  /** Images a step. Default 64. The last batch of an epoch may be smaller. */
  readonly batchSize?: number | undefined;
  /** Leaves out the last batch of an epoch where it is smaller. Default false. */
  readonly dropLast?: boolean | undefined;
  /** A new order of the images every epoch. Default true. */
  readonly shuffle?: boolean | undefined;
  /**
   * What is done to training images, in this order: `[augment.crop({ padding: 4 }), augment.flip()]`. Validation keeps
   * the normalisation. Default: nothing.
   */
  readonly augment?: readonly Augmentation[] | undefined;
  /** Key of the shuffled order and of what augmentation draws. Default 0. */
  readonly seed?: number | undefined;
  /** Evaluated after every epoch. */
  readonly validation?: Dataset | undefined;
  /** What says which epoch is the best. Default: the validation accuracy where there is validation data, else the training loss. */
  readonly monitor?: Metric | undefined;
  /** Ends training after so many whole epochs in a row that were not the best so far. Default: never. */
  readonly patience?: number | undefined;
  /** Ends training within a step. What was learnt until then stays, and `fit` resolves with `stopped: "aborted"`. */
  readonly signal?: AbortSignal | undefined;
  /** Where an earlier fit of the same session stopped; from `onSave`, or from a checkpoint by `model.resume`. */
  readonly resume?: FitState | undefined;
  /** Steps between two calls of `onSave` inside an epoch; it is always called at the end of an epoch and of the run. */
  readonly saveEvery?: number | undefined;
  readonly callbacks?: FitCallbacks | readonly FitCallbacks[] | undefined;
}

/**
 * Told what happens, one call after another, in the order in which they were given; training waits for each. One that
 * throws, or whose promise rejects, ends training: `fit` rejects with the same error and the session stays as it is.
 */
export interface FitCallbacks {
  /** Before the first step. `state` is where the run goes on from, step 0 for a new one. */
  onStart?(length: RunLength, state: FitState): void | Promise<void>;
  /** A few steps, those of about a tenth of a second. */
  onSteps?(steps: readonly StepMetrics[]): void | Promise<void>;
  /** The end of an epoch, with the whole evaluation (top-5, confusion) where there is validation data. */
  onEpoch?(epoch: EpochMetrics, evaluation: Evaluation | undefined): void | Promise<void>;
  /** The moment to write a checkpoint with this state. */
  onSave?(state: FitState): void | Promise<void>;
}

/** One step; the first step of a run is 1. */
export interface StepMetrics {
  readonly step: number;
  /** The epoch it belongs to; the first is 1. */
  readonly epoch: number;
  /** Mean over the batch, before the update. */
  readonly loss: number;
  readonly learningRate: number;
  readonly imagesPerSecond: number;
}

/** One epoch, or the part of one with which a run given in `steps` ends. */
export interface EpochMetrics {
  readonly epoch: number;
  /** Mean over the images of the epoch, each taken before its update. */
  readonly trainLoss: number;
  /** Share of the images of the epoch that were classified correctly, each before its update; from 0 to 1. */
  readonly trainAccuracy: number;
  readonly validationLoss: number | null;
  /** From 0 to 1. */
  readonly validationAccuracy: number | null;
  /** Share of images whose class is among the five highest scores, from 0 to 1. */
  readonly validationTop5: number | null;
  /** Whether no whole epoch before was better by the metric that is monitored. */
  readonly best: boolean;
  /** Of training and validation. */
  readonly seconds: number;
}

/** All that a run needs besides parameters and optimizer state to go on as if it had not stopped; plain JSON. */
export interface FitState {
  /** Steps done. */
  readonly step: number;
  /** Of the epoch under way: the loss summed over its images, those classified correctly, and their number. */
  readonly lossSum: number;
  readonly correct: number;
  readonly images: number;
  /** Wall-clock seconds of the epoch under way. */
  readonly seconds: number;
  /** Of the last epoch that was finished. */
  readonly trainLoss: number | null;
  readonly validationAccuracy: number | null;
  /** The best whole epoch by the metric that is monitored. */
  readonly best: BestEpoch | null;
  /** Where a plateau schedule stands; null for other schedules. */
  readonly plateau: PlateauState | null;
}

export interface BestEpoch {
  readonly epoch: number;
  readonly value: number;
}

export interface FitResult {
  /** Steps since the beginning of the run. */
  readonly steps: number;
  /** Complete epochs since the beginning of the run. */
  readonly epochs: number;
  /** Mean loss of the last epoch; null when there was none. */
  readonly trainLoss: number | null;
  /** After the last epoch, from 0 to 1; null without validation data. */
  readonly validationAccuracy: number | null;
  /** The best whole epoch by the metric that is monitored; null when there was none. */
  readonly best: BestEpoch | null;
  /** Wall-clock time of this call. */
  readonly seconds: number;
  /** Training images over the time spent in training steps; 0 when this call did none. */
  readonly imagesPerSecond: number;
  /** Share of the time spent in training steps in which they waited for their images, from 0 to 1. */
  readonly inputStall: number;
  /** `"patience"` when too many epochs brought no improvement. */
  readonly stopped: "done" | "aborted" | "patience";
}

/** Where every run begins. */
export const initialState: FitState = {
  step: 0,
  lossSum: 0,
  correct: 0,
  images: 0,
  seconds: 0,
  trainLoss: null,
  validationAccuracy: null,
  best: null,
  plateau: null,
};

/**
 * Reads the state that a checkpoint holds.
 *
 * @throws FoveaError `INVALID_DATA` when it is something else
 */
export function parseState(text: string, path: string): FitState {
  const state = parseJson(text);
  if (!hasNumbers(state, ["step", "lossSum", "images", "seconds"])) {
    throw new FoveaError("INVALID_DATA", `Expected where a training stands in ${path} but it holds something else.`);
  }
  return { ...initialState, ...state };
}

/** The steps of a whole run over `images` images. */
export function runLength(
  images: number,
  { epochs, steps, batchSize = 64, dropLast = false }: Pick<FitOptions, "epochs" | "steps" | "batchSize" | "dropLast">,
): RunLength {
  if (epochs !== undefined && steps !== undefined) {
    throw invalidArgument("steps", "either epochs or steps", `both, ${epochs} and ${steps}`);
  }
  const batches = images / count("batchSize", batchSize);
  const stepsPerEpoch = dropLast ? Math.floor(batches) : Math.ceil(batches);
  if (stepsPerEpoch === 0) throw invalidArgument("batchSize", `at most the ${images} images with dropLast`, batchSize);
  const total = steps === undefined ? count("epochs", epochs ?? 10) * stepsPerEpoch : count("steps", steps);
  return { steps: total, stepsPerEpoch };
}

const metrics: readonly string[] = ["trainLoss", "validationLoss", "validationAccuracy"] satisfies readonly Metric[];

const metric: Kind = {
  expected: metrics.map((name) => `"${name}"`).join(" or "),
  includes: (value) => metrics.some((name) => name === value),
};

const callbacks: Kind = {
  expected: "callbacks or a list of them",
  includes: (value) => kinds.object.includes(value) || kinds.objects.includes(value),
};

const state: Kind = {
  expected: "a state from onSave or `resume`",
  includes: (value) => hasNumbers(value, ["step", "lossSum", "images", "seconds"]),
};

/** @throws FoveaError `INVALID_ARGUMENT` naming an option of another kind than {@link FitOptions} says. */
export function checkFitOptions(options: FitOptions): void {
  const { validation, monitor, signal, resume, callbacks: told, augment, classWeights } = checkedOptions(options);
  checkOptional("validation", kinds.dataset, validation);
  checkOptional("monitor", metric, monitor);
  checkOptional("signal", kinds.signal, signal);
  checkOptional("resume", state, resume);
  checkOptional("callbacks", callbacks, told);
  checkOptional("augment", kinds.objects, augment);
  if (classWeights !== "balanced") checkOptional("classWeights", kinds.numbers, classWeights);
}

export function count(name: string, value: number): number {
  if (!(Number.isSafeInteger(value) && value > 0)) throw invalidArgument(name, "a positive whole number", value);
  return value;
}
