import { hasCode, invalidArgument } from "../errors.js";
import type { Dataset, Evaluation, Session, TrainResult } from "../native.js";
import { type Optimizer, sgd } from "./optimizers.js";
import { learningRateAt, type RunLength } from "./schedules.js";

/**
 * The training loop.
 *
 * Steps are handed to the native driver in chunks that last about as long as a person notices: long enough that
 * crossing into native code costs nothing, short enough that progress moves and an abort or a save comes soon. A chunk
 * ends at the end of an epoch and where a save is due. How steps are cut into chunks has no influence on the result:
 * the batch of a step is a pure function of (seed, step), so a run stopped anywhere and continued gives the same bits.
 */
export interface FitOptions {
  /** Passes over the training data, counted from the beginning of the run. Default 10, unless `steps` is given. */
  readonly epochs?: number | undefined;
  /** Batches, counted from the beginning of the run; instead of `epochs`. */
  readonly steps?: number | undefined;
  /** Images a step. Default 64. The last batch of an epoch may be smaller. */
  readonly batchSize?: number | undefined;
  /** Default `sgd()`. */
  readonly optimizer?: Optimizer | undefined;
  /** Share of each target that is spread evenly over all classes, from 0 to below 1. Default 0. */
  readonly labelSmoothing?: number | undefined;
  /** A new order of the images every epoch. Default true. */
  readonly shuffle?: boolean | undefined;
  /** Key of the shuffled order. Default 0. */
  readonly seed?: number | undefined;
  /** Evaluated after every epoch. */
  readonly validation?: Dataset | undefined;
  /** Ends training within a step. What was learnt until then stays, and `fit` resolves with `stopped: "aborted"`. */
  readonly signal?: AbortSignal | undefined;
  /** Where an earlier fit of the same session stopped; from `onSave`. */
  readonly resume?: FitState | undefined;
  /** Steps between two calls of `onSave` inside an epoch; it is always called at the end of an epoch and of the run. */
  readonly saveEvery?: number | undefined;
  readonly callbacks?: FitCallbacks | undefined;
}

/** Awaited one after another; training pauses meanwhile. */
export interface FitCallbacks {
  onStart?(length: RunLength): void | Promise<void>;
  onSteps?(steps: readonly StepMetrics[]): void | Promise<void>;
  onEpoch?(epoch: EpochMetrics): void | Promise<void>;
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
  readonly validationLoss: number | null;
  /** From 0 to 1. */
  readonly validationAccuracy: number | null;
  /** Of training and validation. */
  readonly seconds: number;
}

/** All that a run needs besides parameters and optimizer state to go on as if it had not stopped; plain JSON. */
export interface FitState {
  /** Steps done. */
  readonly step: number;
  /** Of the epoch under way: the loss summed over its images, and their number. */
  readonly lossSum: number;
  readonly images: number;
  /** Wall-clock seconds of the epoch under way. */
  readonly seconds: number;
  /** Of the last epoch that was finished. */
  readonly trainLoss: number | null;
  readonly validationAccuracy: number | null;
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
  /** Wall-clock time of this call. */
  readonly seconds: number;
  /** Training images over the time spent in training steps; 0 when this call did none. */
  readonly imagesPerSecond: number;
  readonly stopped: "done" | "aborted";
}

const chunkSeconds = 0.075;
/** Where every run begins. */
export const initialState: FitState = {
  step: 0,
  lossSum: 0,
  images: 0,
  seconds: 0,
  trainLoss: null,
  validationAccuracy: null,
};

/**
 * Trains a session on a data set.
 *
 * @throws FoveaError `NOT_FINITE` when the loss stops being a number; the update of that step is not applied.
 * `INVALID_ARGUMENT` and `INVALID_DATA` when an option, or the data for this network, makes no sense.
 */
export async function fit(session: Session, train: Dataset, options: FitOptions = {}): Promise<FitResult> {
  return new Fit(session, train, options).run();
}

class Fit {
  readonly #session: Session;
  readonly #train: Dataset;
  readonly #options: FitOptions;
  readonly #optimizer: Optimizer;
  readonly #batchSize: number;
  readonly #length: RunLength;
  #state: FitState;
  #chunk = 1;
  #trainingSeconds = 0;
  #trainedImages = 0;
  #saved: number;

  constructor(session: Session, train: Dataset, options: FitOptions) {
    this.#session = session;
    this.#train = train;
    this.#options = options;
    this.#optimizer = options.optimizer ?? sgd();
    this.#batchSize = count("batchSize", options.batchSize ?? 64);
    this.#length = runLength(train.length, options);
    this.#state = options.resume ?? initialState;
    this.#saved = this.#state.step;
    if (options.saveEvery !== undefined) count("saveEvery", options.saveEvery);
    const smoothing = options.labelSmoothing ?? 0;
    if (!(smoothing >= 0 && smoothing < 1)) {
      throw invalidArgument("labelSmoothing", "a number from 0 to below 1", smoothing);
    }
  }

  async run(): Promise<FitResult> {
    const { callbacks } = this.#options;
    const began = performance.now();
    await callbacks?.onStart?.(this.#length);
    await this.#runEpochs();
    if (this.#state.step !== this.#saved) await this.#save();
    return {
      steps: this.#state.step,
      epochs: Math.floor(this.#state.step / this.#length.stepsPerEpoch),
      trainLoss: this.#state.trainLoss,
      validationAccuracy: this.#state.validationAccuracy,
      seconds: (performance.now() - began) / 1000,
      imagesPerSecond: this.#trainedImages === 0 ? 0 : this.#trainedImages / this.#trainingSeconds,
      stopped: this.#state.step < this.#length.steps ? "aborted" : "done",
    };
  }

  async #runEpochs(): Promise<void> {
    for (;;) {
      // An epoch that is complete but not closed may also come from a run that was stopped while it validated.
      if (this.#atEpochEnd && !(await this.#closeEpoch())) return;
      if (this.#aborted) return;
      if (this.#state.step >= this.#length.steps) break;
      await this.#advance();
    }
    if (this.#state.images > 0) await this.#closeEpoch();
  }

  get #aborted(): boolean {
    return this.#options.signal?.aborted ?? false;
  }

  get #atEpochEnd(): boolean {
    return this.#state.images > 0 && this.#state.step % this.#length.stepsPerEpoch === 0;
  }

  /** Trains one chunk. */
  async #advance(): Promise<void> {
    const { step } = this.#state;
    const { callbacks, saveEvery = Number.POSITIVE_INFINITY } = this.#options;
    const { steps, stepsPerEpoch } = this.#length;
    const began = performance.now();
    const toBoundary = Math.min(steps - step, stepsPerEpoch - (step % stepsPerEpoch), saveEvery - (step % saveEvery));
    const learningRates = Float64Array.from({ length: Math.min(this.#chunk, toBoundary) }, (_, index) =>
      learningRateAt(this.#optimizer.learningRate, step + index, this.#length),
    );
    const result = await this.#trainSteps(learningRates);
    const metrics = this.#record(result, learningRates, (performance.now() - began) / 1000);
    await callbacks?.onSteps?.(metrics);
    if (this.#state.step > step && this.#state.step % saveEvery === 0 && !this.#atEpochEnd) await this.#save();
  }

  async #trainSteps(learningRates: Float64Array): Promise<TrainResult> {
    const { momentum, nesterov, weightDecay, kind } = this.#optimizer;
    const { labelSmoothing = 0, shuffle = true, seed = 0 } = this.#options;
    return this.#abortable(() =>
      this.#session.trainSteps(this.#train, {
        batchSize: this.#batchSize,
        firstStep: this.#state.step,
        learningRates,
        optimizer: { kind, momentum, nesterov, weightDecay, labelSmoothing },
        shuffle,
        dropLast: false,
        seed,
      }),
    );
  }

  /** Takes a chunk's losses into the state and chooses the size of the next chunk. */
  #record(result: TrainResult, learningRates: Float64Array, seconds: number): StepMetrics[] {
    const { step: before, lossSum, images: imagesBefore } = this.#state;
    const done = result.losses.length;
    const images = result.images.reduce((sum, each) => sum + each, 0);
    this.#trainingSeconds += result.seconds;
    this.#trainedImages += images;
    this.#state = {
      ...this.#state,
      step: before + done,
      lossSum: result.losses.reduce((sum, loss, index) => sum + loss * (result.images[index] ?? 0), lossSum),
      images: imagesBefore + images,
      seconds: this.#state.seconds + seconds,
    };
    // A first chunk includes the compilation of the plan: growing at most fourfold, a later one corrects it.
    const fitting = Math.floor((chunkSeconds / result.seconds) * done);
    this.#chunk = Math.max(1, Math.min(fitting, done * 4));
    return Array.from(result.losses, (loss, index) => ({
      step: before + index + 1,
      epoch: Math.floor((before + index) / this.#length.stepsPerEpoch) + 1,
      loss,
      learningRate: learningRates[index] ?? Number.NaN,
      imagesPerSecond: images / result.seconds,
    }));
  }

  /** Validates and reports the epoch under way; false when it was stopped meanwhile and remains to be done. */
  async #closeEpoch(): Promise<boolean> {
    const began = performance.now();
    const { validation, callbacks } = this.#options;
    const evaluation = validation && (await this.#evaluate(validation));
    if (validation && !evaluation) return false;
    const { step, lossSum, images } = this.#state;
    const trainLoss = lossSum / images;
    const validationAccuracy = evaluation?.accuracy ?? null;
    const seconds = this.#state.seconds + (performance.now() - began) / 1000;
    this.#state = this.#atEpochEnd
      ? { ...initialState, step, trainLoss, validationAccuracy }
      : { ...this.#state, trainLoss, validationAccuracy };
    const epoch = Math.ceil(step / this.#length.stepsPerEpoch);
    const validationLoss = evaluation?.loss ?? null;
    await callbacks?.onEpoch?.({ epoch, trainLoss, validationLoss, validationAccuracy, seconds });
    await this.#save();
    return true;
  }

  async #evaluate(validation: Dataset): Promise<Evaluation | undefined> {
    if (this.#aborted) return undefined;
    try {
      return await this.#abortable(() => this.#session.evaluate(validation, this.#batchSize));
    } catch (error) {
      if (this.#aborted && hasCode(error, "ABORTED")) return undefined;
      throw error;
    }
  }

  async #save(): Promise<void> {
    await this.#options.callbacks?.onSave?.(this.#state);
    this.#saved = this.#state.step;
  }

  /** Runs a native command that the caller's signal stops. */
  async #abortable<Result>(command: () => Promise<Result>): Promise<Result> {
    const { signal } = this.#options;
    const abort = (): void => this.#session.abort();
    signal?.addEventListener("abort", abort);
    try {
      return await command();
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }
}

/** The steps of a whole run over `images` images. */
export function runLength(
  images: number,
  { epochs, steps, batchSize = 64 }: Pick<FitOptions, "epochs" | "steps" | "batchSize">,
): RunLength {
  if (epochs !== undefined && steps !== undefined) {
    throw invalidArgument("steps", "either epochs or steps", `both, ${epochs} and ${steps}`);
  }
  const stepsPerEpoch = Math.ceil(images / count("batchSize", batchSize));
  const total = steps === undefined ? count("epochs", epochs ?? 10) * stepsPerEpoch : count("steps", steps);
  return { steps: total, stepsPerEpoch };
}

function count(name: string, value: number): number {
  if (!(Number.isSafeInteger(value) && value > 0)) throw invalidArgument(name, "a positive whole number", value);
  return value;
}
