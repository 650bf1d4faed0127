import { Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { duration, lineProgress, type Progress, terminalProgress } from "../../src/report/progress.js";
import type { StepMetrics } from "../../src/training/fit-options.js";

/** A terminal that remembers what was written to it. */
class Terminal extends Writable {
  readonly isTTY = true;
  readonly columns = 120;
  text = "";

  override _write(chunk: unknown, _: string, done: () => void): void {
    this.text += String(chunk);
    done();
  }
}

const epoch = {
  ...{ epoch: 1, trainLoss: 0.5, trainAccuracy: 0.8, validationLoss: 0.25, validationAccuracy: 0.9125 },
  ...{ validationTop5: 1, best: true, seconds: 2.5 },
};
const epochLine = "epoch 1/2  loss 0.5000  validation 91.25 % (loss 0.2500)  2.5 s";

/** Half of an epoch of ten steps, in a run of two. */
function runHalfAnEpoch(progress: Progress): void {
  progress.start({ steps: 20, stepsPerEpoch: 10 }, 0);
  const steps = Array.from({ length: 5 }, (_, index): StepMetrics => {
    return { step: index + 1, epoch: 1, loss: 2, learningRate: 0.1, imagesPerSecond: 1234.5 };
  });
  progress.steps(steps);
}

test("a terminal has a bar with pace and time left, and keeps a line of each epoch", async () => {
  const [terminal, lines] = [new Terminal(), [] as string[]];
  const progress = terminalProgress(terminal, (line) => lines.push(line));
  runHalfAnEpoch(progress);
  await delay(300); // it is drawn a few times a second
  expect(terminal.text).toMatch(/epoch 1\/2 █+░+ 50 % {2}loss 2\.0000 {2}1,235 images\/s {2}\d+ s left/);
  progress.epoch(epoch);
  progress.stop();
  expect(lines).toEqual([epochLine]);
});

test("elsewhere there are lines, now and then and after each epoch", () => {
  const lines: string[] = [];
  const progress = lineProgress((line) => lines.push(line), 0);
  runHalfAnEpoch(progress);
  progress.epoch(epoch);
  expect(lines).toEqual([
    expect.stringMatching(/^step 5\/20 {2}loss 2\.0000 {2}1,235 images\/s {2}\d+ s left$/),
    epochLine,
  ]);
});

test.each([
  [7.6, "8 s"],
  [200, "3 min 20 s"],
  [7500, "2 h 5 min"],
  [Number.NaN, "-"],
])("%d seconds are %s", (seconds, words) => {
  expect(duration(seconds)).toBe(words);
});
