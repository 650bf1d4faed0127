import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { datasets } from "../../src/data/datasets.js";
import type { Model } from "../../src/model/model.js";
import { saveBest, saveCheckpoints } from "../../src/training/checkpoints.js";
import type { EpochMetrics, FitOptions, FitState, StepMetrics } from "../../src/training/fit-options.js";
import { csvLog, jsonLinesLog, readMetrics } from "../../src/training/logs.js";
import { sgd } from "../../src/training/optimizers.js";
import { plateau } from "../../src/training/schedules.js";
import { lenet5 } from "../../src/zoo/index.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist } from "../support/files.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const { train, test: validation } = await datasets.mnist({
  directory: smallMnist(path("mnist"), { train: 320, test: 100 }),
});
const stepsPerEpoch = 5;

/** The weights after training, as they are written. */
async function weights(model: Model): Promise<Buffer> {
  await model.save(path("weights.safetensors"));
  return readFileSync(path("weights.safetensors"));
}

describe("a callback that throws ends training with its error, and the session goes on", () => {
  const failure = new Error("enough");
  const fail = (): never => {
    throw failure;
  };
  test.each([
    ["onStart", { onStart: fail }],
    ["onSteps", { onSteps: async () => fail() }],
    ["onEpoch", { onEpoch: fail }],
    ["onSave", { onSave: async () => fail() }],
  ])("%s", async (_, callback) => {
    const lenet = lenet5();
    const log = path("thrown.jsonl");
    const training = lenet.fit(train, { epochs: 2, callbacks: [jsonLinesLog(log), callback] });
    await expect(training).rejects.toBe(failure);
    expect(readFileSync(log, "utf8")).toMatch(/^(\{.*\}\n)*$/);
    const { steps } = await lenet.fit(train, { steps: 3 });
    expect(steps).toBe(3);
    await lenet.close();
  });
});

test("callbacks are called in their order, each awaited, with the whole evaluation after an epoch", async () => {
  const told: string[] = [];
  const named = (name: string) => ({
    onEpoch: async ({ epoch, validationTop5 }: EpochMetrics, evaluation: { top5: number } | undefined) => {
      await Promise.resolve();
      told.push(`${name} ${epoch}`);
      expect(evaluation?.top5).toBe(validationTop5);
    },
  });
  const lenet = lenet5();
  await lenet.fit(train, { epochs: 2, validation, callbacks: [named("first"), named("second")] });
  expect(told).toEqual(["first 1", "second 1", "first 2", "second 2"]);
  await lenet.close();
});

test("an epoch tells its training accuracy, each image before its update", async () => {
  const lenet = lenet5();
  const epochs: EpochMetrics[] = [];
  const callbacks = { onEpoch: (epoch: EpochMetrics) => void epochs.push(epoch) };
  // So small a rate changes nothing that counts: the accuracy is that of the initial weights.
  await lenet.fit(train, { epochs: 1, optimizer: sgd({ learningRate: 1e-9 }), callbacks });
  const { accuracy, loss } = await lenet.evaluate(train);
  expect(epochs[0]?.trainAccuracy).toBe(accuracy);
  expect(epochs[0]?.trainLoss).toBeCloseTo(loss, 4);
  await lenet.close();
});

describe("patience", () => {
  test("ends training when so many epochs were not the best, and tells which was", async () => {
    const lenet = lenet5({ seed: 4 });
    const epochs: EpochMetrics[] = [];
    const options: FitOptions = {
      epochs: 50,
      optimizer: sgd({ learningRate: 0.1 }),
      validation,
      monitor: "validationLoss",
      patience: 3,
      callbacks: { onEpoch: (epoch) => void epochs.push(epoch) },
    };
    const result = await lenet.fit(train, options);
    expect(result.stopped).toBe("patience");
    const losses = epochs.map(({ validationLoss }) => validationLoss ?? Number.NaN);
    const lowest = losses.indexOf(Math.min(...losses));
    expect(result.best).toEqual({ epoch: lowest + 1, value: losses[lowest] });
    expect(result.epochs).toBe(lowest + 1 + 3);
    expect(epochs.map(({ best }) => best)).toEqual(
      losses.map((loss, index) => losses.slice(0, index).every((before) => loss < before)),
    );
    await lenet.close();
  });

  test("is over when such a run is asked to go on", async () => {
    const lenet = lenet5();
    const resume: FitState = {
      ...{ step: 20, lossSum: 0, correct: 0, images: 0, seconds: 0, trainLoss: 1, validationAccuracy: null },
      ...{ best: { epoch: 1, value: 1 }, plateau: null },
    };
    expect(await lenet.fit(train, { epochs: 9, patience: 3, resume })).toMatchObject({
      steps: 20,
      stopped: "patience",
    });
    await lenet.close();
  });

  test("needs validation data for what it monitors", async () => {
    const lenet = lenet5();
    await expect(lenet.fit(train, { monitor: "validationLoss" })).rejects.toThrow(
      'Expected "trainLoss" without validation data for "monitor" but received "validationLoss".',
    );
    await expect(lenet.fit(train, { patience: 0 })).rejects.toThrow('a positive whole number for "patience"');
    await lenet.close();
  });
});

test("a plateau schedule goes on exactly where a checkpoint left it", async () => {
  const optimizer = sgd({ learningRate: plateau(0.2, { factor: 0.5, patience: 0, threshold: 0.2 }) });
  const rates: number[] = [];
  const options: FitOptions = { epochs: 8, validation, optimizer, patience: 8 };
  const collect = { onSteps: (steps: readonly StepMetrics[]) => void rates.push(...steps.map((s) => s.learningRate)) };

  const whole = lenet5({ seed: 5 });
  await whole.fit(train, { ...options, callbacks: collect });
  const expected = rates.splice(0);
  expect(new Set(expected).size).toBeGreaterThan(2);

  const first = lenet5({ seed: 5, threads: 1 });
  const stop = { onSave: async (state: FitState) => void (await first.saveCheckpoint(path("plateau"), state)) };
  await first.fit(train, { ...options, epochs: undefined, steps: 4 * stepsPerEpoch + 2, callbacks: [collect, stop] });
  const second = lenet5({ seed: 99 });
  const resume = await second.resume(path("plateau"));
  expect(resume.plateau?.scale).toBeLessThan(1);
  await second.fit(train, { ...options, seed: 5, resume, callbacks: collect });
  expect(rates).toEqual(expected);
  expect((await weights(second)).equals(await weights(whole))).toBe(true);
  await Promise.all([whole, first, second].map((model) => model.close()));
});

test("the best epoch's weights are kept, and the last few checkpoints", async () => {
  const lenet = lenet5({ seed: 6 });
  const best = path("best.safetensors");
  const kept = path("a/b/checkpoints");
  const seen: Buffer[] = [];
  const compare = {
    async onEpoch({ best }: EpochMetrics) {
      if (best) seen.push(await weights(lenet));
    },
  };
  const result = await lenet.fit(train, {
    epochs: 6,
    validation,
    saveEvery: 3,
    callbacks: [saveBest(lenet, best), saveCheckpoints(lenet, kept, { last: 3 }), compare],
  });
  expect(readFileSync(best).equals(seen.at(-1) ?? Buffer.of())).toBe(true);
  expect(result.best).not.toBe(null);
  expect(readdirSync(kept).sort()).toEqual([25, 27, 30].map((step) => `checkpoint-${step}.safetensors`));

  const again = lenet5({ seed: 6 });
  const resume = await again.resume(join(kept, "checkpoint-27.safetensors"));
  expect(resume).toMatchObject({ step: 27, best: expect.any(Object) });
  await again.fit(train, { epochs: 6, validation, resume, seed: 6, callbacks: saveCheckpoints(again, kept) });
  expect((await weights(again)).equals(await weights(lenet))).toBe(true);
  await Promise.all([lenet, again].map((model) => model.close()));
});

test("logs hold every step and epoch once, though a training was stopped and repeated", async () => {
  const [lines, table] = [path("log.jsonl"), path("log.csv")];
  const lenet = lenet5();
  const checkpoint = path("logged.safetensors");
  const callbacks = [jsonLinesLog(lines), csvLog(table)];
  const saveOnce = {
    async onSave(state: FitState) {
      if (!existsSync(checkpoint)) await lenet.saveCheckpoint(checkpoint, state);
    },
  };
  await lenet.fit(train, { epochs: 3, saveEvery: 7, validation, callbacks: [...callbacks, saveOnce] });
  await lenet.fit(train, { epochs: 2, validation, callbacks, resume: await lenet.resume(checkpoint) });
  const metrics = await readMetrics(lines);
  expect(metrics.flatMap((line) => ("step" in line ? line.step : `epoch ${line.epoch}`))).toEqual([
    ...[1, 2, 3, 4, 5, "epoch 1", 6, 7, 8, 9, 10, "epoch 2"],
  ]);
  const [header = "", ...rows] = readFileSync(table, "utf8").trimEnd().split("\n");
  expect(header).toMatch(/^epoch,step,learningRate,trainLoss,/);
  const place = header.split(",").indexOf("validationAccuracy");
  const epochs = metrics.filter((line): line is EpochMetrics => "trainLoss" in line);
  expect(rows.map((row) => row.split(",").slice(0, 3).join())).toEqual(["1,5,0.01", "2,10,0.01"]);
  expect(rows.map((row) => Number(row.split(",")[place]))).toEqual(epochs.map((epoch) => epoch.validationAccuracy));
  await lenet.close();
});
