import { FoveaError, hasCode } from "../errors.js";
import type { Dataset, Evaluation, Session, TrainResult } from "../native.js";
import { abortable } from "./abortable.js";
import { combined } from "./callbacks.js";
import { exclusively } from "./exclusive.js";
import {
  count,
  type FitCallbacks,
  type FitOptions,
  type FitResult,
  type FitState,
  initialState,
  runLength,
  type StepMetrics,
} from "./fit-options.js";
import { Judge } from "./judge.js";
import { initialPlateau, learningRateAt, momentumAt, movesMomentum } from "./learning-rate.js";
import { type Optimizer, sgd } from "./optimizers.js";
import type { RunLength } from "./schedules.js";
import { prepareSteps, type Steps } from "./steps.js";

const chunkSeconds = 0.075;

/**
 * Trains a session on a data set.
 *
 * Steps are handed to the native driver in chunks that last about as long as a person notices: long enough that
 * crossing into native code costs nothing, short enough that progress moves and an abort or a save comes soon. A chunk
 * ends at the end of an epoch and where a save is due. How steps are cut into chunks has no influence on the result:
 * the batch of a step is a pure function of (seed, step), so a run stopped anywhere and continued gives the same bits.
 *
 * @throws FoveaError `NOT_FINITE` when the loss stops being a number: the callbacks are told the steps before,
 * and the weights are those of the last of them. `INVALID_ARGUMENT` and `INVALID_DATA` when an option, or the
 * data for this network, makes no sense. `BUSY` while something else trains the session. Whatever a callback
 * throws.
 */
export async function fit(session: Session, train: Dataset, options: FitOptions = {}): Promise<FitResult> {
  return exclusively(session, "fit", async () =>
    new Fit(session, train, options, await prepareSteps(session, train, options)).run(),
  );
}

class Fit {
  readonly #session: Session;
  readonly #train: Dataset;
  readonly #options: FitOptions;
  readonly #optimizer: Optimizer;
  readonly #batchSize: number;
  readonly #steps: Steps;
  readonly #length: RunLength;
  readonly #judge: Judge;
  readonly #callbacks: Required<FitCallbacks>;
  #state: FitState;
  #chunk = 1;
  #trainingSeconds = 0;
  #stallSeconds = 0;
  #trainedImages = 0;
  #saved: number;

  constructor(session: Session, train: Dataset, options: FitOptions, steps: Steps) {
    this.#session = session;
    this.#train = train;
    this.#options = options;
    this.#optimizer = options.optimizer ?? sgd();
    this.#batchSize = options.batchSize ?? 64;
    this.#steps = steps;
    this.#length = runLength(train.length, options);
    this.#judge = new Judge(options, this.#optimizer.learningRate);
    this.#callbacks = combined(options.callbacks);
    this.#state = { ...initialState, ...options.resume };
    this.#saved = this.#state.step;
    if (options.saveEvery !== undefined) count("saveEvery", options.saveEvery);
  }

  async run(): Promise<FitResult> {
    const began = performance.now();
    await this.#callbacks.onStart(this.#length, this.#state);
    const stopped = await this.#runEpochs();
    if (this.#state.step !== this.#saved) await this.#save();
    const { step, trainLoss, validationAccuracy, best } = this.#state;
    return {
      steps: step,
      epochs: this.#wholeEpochs,
      trainLoss,
      validationAccuracy,
      best,
      seconds: (performance.now() - began) / 1000,
      imagesPerSecond: this.#trainedImages === 0 ? 0 : this.#trainedImages / this.#trainingSeconds,
      inputStall: this.#trainedImages === 0 ? 0 : this.#stallSeconds / this.#trainingSeconds,
      stopped,
    };
  }

  async #runEpochs(): Promise<FitResult["stopped"]> {
    for (;;) {
      // An epoch that is complete but not closed may also come from a run that was stopped while it validated.
      if (this.#atEpochEnd && !(await this.#closeEpoch())) return "aborted";
      if (this.#state.step >= this.#length.steps) break;
      if (this.#state.images === 0 && this.#judge.isExhausted(this.#state, this.#wholeEpochs)) return "patience";
      if (this.#aborted) return "aborted";
      await this.#advance();
    }
    if (this.#state.images > 0 && !(await this.#closeEpoch())) return "aborted";
    return "done";
  }

  get #aborted(): boolean {
    return this.#options.signal?.aborted ?? false;
  }

  get #wholeEpochs(): number {
    return Math.floor(this.#state.step / this.#length.stepsPerEpoch);
  }

  get #atEpochEnd(): boolean {
    return this.#state.images > 0 && this.#state.step % this.#length.stepsPerEpoch === 0;
  }

  /** Trains one chunk. */
  async #advance(): Promise<void> {
    const { step, plateau } = this.#state;
    const { saveEvery = Number.POSITIVE_INFINITY } = this.#options;
    const { steps, stepsPerEpoch } = this.#length;
    const began = performance.now();
    const toBoundary = Math.min(steps - step, stepsPerEpoch - (step % stepsPerEpoch), saveEvery - (step % saveEvery));
    const schedule = this.#optimizer.learningRate;
    const each = (valueAt: (step: number) => number): Float64Array =>
      Float64Array.from({ length: Math.min(this.#chunk, toBoundary) }, (_, index) => valueAt(step + index));
    const learningRates = each((step) => learningRateAt(schedule, step, this.#length, plateau ?? initialPlateau));
    const momenta = movesMomentum(schedule) ? each((step) => momentumAt(schedule, step, this.#length)) : undefined;
    const result = await this.#trainSteps(learningRates, momenta);
    const metrics = this.#record(result, learningRates, (performance.now() - began) / 1000);
    await this.#callbacks.onSteps(metrics);
    if (result.failure !== undefined) throw new FoveaError("NOT_FINITE", result.failure);
    if (this.#state.step > step && this.#state.step % saveEvery === 0 && !this.#atEpochEnd) await this.#save();
  }

  async #trainSteps(learningRates: Float64Array, momenta: Float64Array | undefined): Promise<TrainResult> {
    const request = this.#steps.request(this.#state.step, learningRates, momenta);
    return abortable(this.#options.signal, (handle) => this.#session.trainSteps(this.#train, request, handle));
  }

  /** Takes a chunk's losses into the state and chooses the size of the next chunk. */
  #record(result: TrainResult, learningRates: Float64Array, seconds: number): StepMetrics[] {
    const before = this.#state;
    const done = result.losses.length;
    const sum = (values: Uint32Array): number => values.reduce((total, each) => total + each, 0);
    const images = sum(result.images);
    this.#trainingSeconds += result.seconds;
    this.#stallSeconds += result.stallSeconds;
    this.#trainedImages += images;
    this.#state = {
      ...before,
      step: before.step + done,
      lossSum: result.losses.reduce((sum, loss, index) => sum + loss * (result.images[index] ?? 0), before.lossSum),
      correct: before.correct + sum(result.correct),
      images: before.images + images,
      seconds: before.seconds + seconds,
    };
    // A first chunk includes the compilation of the plan: growing at most fourfold, a later one corrects it.
    const fitting = Math.floor((chunkSeconds / result.seconds) * done);
    this.#chunk = Math.max(1, Math.min(fitting, done * 4));
    return Array.from(result.losses, (loss, index) => ({
      step: before.step + index + 1,
      epoch: Math.floor((before.step + index) / this.#length.stepsPerEpoch) + 1,
      loss,
      learningRate: learningRates[index] ?? Number.NaN,
      imagesPerSecond: images / result.seconds,
    }));
  }

  /** Validates and reports the epoch under way; false when it was stopped meanwhile and remains to be done. */
  async #closeEpoch(): Promise<boolean> {
    const began = performance.now();
    const { validation } = this.#options;
    const evaluation = validation && (await this.#evaluate(validation));
    if (validation && !evaluation) return false;
    const { step, lossSum, correct, images } = this.#state;
    const values = {
      trainLoss: lossSum / images,
      trainAccuracy: correct / images,
      validationLoss: evaluation?.loss ?? null,
      validationAccuracy: evaluation?.accuracy ?? null,
      validationTop5: evaluation?.top5 ?? null,
    };
    const { trainLoss, validationAccuracy } = values;
    const best = this.#judge.isBest(this.#state, values);
    const seconds = this.#state.seconds + (performance.now() - began) / 1000;
    const epoch = Math.ceil(step / this.#length.stepsPerEpoch);
    this.#state = this.#atEpochEnd
      ? { ...initialState, step, trainLoss, validationAccuracy, ...this.#judge.judge(this.#state, epoch, values) }
      : { ...this.#state, trainLoss, validationAccuracy };
    await this.#callbacks.onEpoch({ epoch, ...values, best, seconds }, evaluation);
    await this.#save();
    return true;
  }

  async #evaluate(validation: Dataset): Promise<Evaluation | undefined> {
    if (this.#aborted) return undefined;
    try {
      return await abortable(this.#options.signal, (handle) =>
        this.#session.evaluate(validation, this.#batchSize, this.#steps.evaluation, handle),
      );
    } catch (error) {
      if (this.#aborted && hasCode(error, "ABORTED")) return undefined;
      throw error;
    }
  }

  async #save(): Promise<void> {
    await this.#callbacks.onSave(this.#state);
    this.#saved = this.#state.step;
  }
}
