import { SingleBar } from "cli-progress";
import type { EpochMetrics, StepMetrics } from "../training/fit-options.js";
import type { RunLength } from "../training/schedules.js";

/** Shows how far training is. */
export interface Progress {
  start(length: RunLength, step: number): void;
  steps(steps: readonly StepMetrics[]): void;
  epoch(epoch: EpochMetrics): void;
  /** Leaves the terminal as it was, at the end or before a message. */
  stop(): void;
}

/** Lines, for logs: one an epoch, and one now and then while an epoch lasts. */
export function lineProgress(write: (line: string) => void, secondsBetweenLines = 10): Progress {
  const state = new Running();
  let lastLine = performance.now();
  return {
    start: (length, step) => state.start(length, step),
    steps(steps) {
      state.add(steps);
      if (performance.now() - lastLine < 1000 * secondsBetweenLines) return;
      lastLine = performance.now();
      const { step, length, loss, imagesPerSecond, secondsLeft } = state;
      write(
        `step ${step}/${length.steps}  loss ${loss.toFixed(4)}  ${rate(imagesPerSecond)}  ${duration(secondsLeft)} left`,
      );
    },
    epoch(epoch) {
      lastLine = performance.now();
      write(epochLine(epoch, state.epochs));
    },
    stop() {},
  };
}

/** A bar for the epoch under way, and a line for each that is done. */
export function terminalProgress(terminal: NodeJS.WritableStream, write: (line: string) => void): Progress {
  const state = new Running();
  const bar = new SingleBar({
    stream: terminal,
    format: "epoch {epoch}/{epochs} {bar} {percentage} %  loss {loss}  {rate}  {left} left",
    barsize: 28,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    hideCursor: true,
    clearOnComplete: true,
    gracefulExit: false,
  });
  const payload = () => ({
    epoch: Math.floor(state.step / state.length.stepsPerEpoch) + 1,
    epochs: state.epochs,
    loss: Number.isNaN(state.loss) ? "-" : state.loss.toFixed(4),
    rate: rate(state.imagesPerSecond),
    left: duration(state.secondsLeft),
  });
  const begin = (): void => {
    const { stepsPerEpoch, steps } = state.length;
    const before = state.step - (state.step % stepsPerEpoch);
    if (before < steps) bar.start(Math.min(stepsPerEpoch, steps - before), state.step - before, payload());
  };
  return {
    start(length, step) {
      state.start(length, step);
      begin();
    },
    steps(steps) {
      const { epoch } = payload();
      state.add(steps);
      bar.update(state.step - (epoch - 1) * state.length.stepsPerEpoch, { ...payload(), epoch });
    },
    epoch(epoch) {
      bar.stop();
      write(epochLine(epoch, state.epochs));
      begin();
    },
    stop: () => bar.stop(),
  };
}

/** No output at all. */
export const silentProgress: Progress = { start() {}, steps() {}, epoch() {}, stop() {} };

/** What both kinds of output are made from. */
class Running {
  length: RunLength = { steps: 0, stepsPerEpoch: 1 };
  step = 0;
  /** Averaged over about the last fifty steps. */
  loss = Number.NaN;
  /** Averaged over about the last ten chunks. */
  imagesPerSecond = 0;
  #began = performance.now();
  #firstStep = 0;

  get epochs(): number {
    return Math.ceil(this.length.steps / this.length.stepsPerEpoch);
  }

  /** By the pace so far, validation and saving included. */
  get secondsLeft(): number {
    const done = this.step - this.#firstStep;
    return done === 0
      ? Number.NaN
      : ((performance.now() - this.#began) / 1000 / done) * (this.length.steps - this.step);
  }

  start(length: RunLength, step: number): void {
    this.length = length;
    this.step = step;
    this.#firstStep = step;
    this.#began = performance.now();
  }

  add(steps: readonly StepMetrics[]): void {
    for (const { step, loss } of steps) {
      this.step = step;
      this.loss = Number.isNaN(this.loss) ? loss : 0.98 * this.loss + 0.02 * loss;
    }
    const rate = steps.at(-1)?.imagesPerSecond ?? this.imagesPerSecond;
    this.imagesPerSecond = this.imagesPerSecond === 0 ? rate : 0.9 * this.imagesPerSecond + 0.1 * rate;
  }
}

function epochLine(
  { epoch, trainLoss, validationLoss, validationAccuracy, seconds }: EpochMetrics,
  epochs: number,
): string {
  const validation =
    validationAccuracy === null || validationLoss === null
      ? ""
      : `  validation ${(100 * validationAccuracy).toFixed(2)} % (loss ${validationLoss.toFixed(4)})`;
  const number = String(epoch).padStart(String(epochs).length);
  return `epoch ${number}/${epochs}  loss ${trainLoss.toFixed(4)}${validation}  ${seconds.toFixed(1)} s`;
}

function rate(imagesPerSecond: number): string {
  const digits = imagesPerSecond < 100 ? 1 : 0;
  return `${imagesPerSecond.toLocaleString("en-US", { maximumFractionDigits: digits })} images/s`;
}

/** Seconds as people say them: `8 s`, `3 min 20 s`, `2 h 5 min`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "-";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
