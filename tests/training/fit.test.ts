import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { datasets } from "../../src/data/datasets.js";
import { input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import { fit } from "../../src/training/fit.js";
import type { EpochMetrics, FitState, StepMetrics } from "../../src/training/fit-options.js";
import { sgd } from "../../src/training/optimizers.js";
import { cosine, oneCycle } from "../../src/training/schedules.js";
import { lenet5 } from "../../src/zoo/index.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist } from "../support/files.js";

const directory = smallMnist(temporaryDirectory(), { train: 1000, test: 300 });
const { train, test: validation } = await datasets.mnist({ directory });

describe("fit", () => {
  test("learns digits from a thousand images", async () => {
    const lenet = lenet5({ seed: 1 });
    const result = await lenet.fit(train, { epochs: 4, optimizer: sgd({ learningRate: 0.05 }), validation });
    expect(result).toMatchObject({ steps: 64, epochs: 4, stopped: "done" });
    expect(result.trainLoss).toBeLessThan(0.6);
    expect(result.validationAccuracy).toBeGreaterThan(0.8);
    expect(result.imagesPerSecond).toBeGreaterThan(0);
    const { accuracy, images } = await lenet.evaluate(validation);
    expect(images).toBe(300);
    expect(accuracy).toBe(result.validationAccuracy);
    await lenet.close();
  });

  test("tells every step, epoch and save, in order", async () => {
    const told: string[] = [];
    const steps: StepMetrics[] = [];
    const epochs: EpochMetrics[] = [];
    const lenet = lenet5();
    await lenet.fit(train, {
      steps: 20,
      saveEvery: 6,
      optimizer: sgd({ learningRate: cosine(0.1, { warmup: 2 }) }),
      callbacks: {
        onStart: (length) => void told.push(`start ${length.steps} of ${length.stepsPerEpoch}`),
        onSteps: (each) => void steps.push(...each),
        onEpoch: (epoch) => {
          told.push(`epoch ${epoch.epoch}`);
          epochs.push(epoch);
        },
        onSave: ({ step }) => void told.push(`save ${step}`),
      },
    });
    expect(told).toEqual([
      "start 20 of 16",
      "save 6",
      "save 12",
      "epoch 1",
      "save 16",
      "save 18",
      "epoch 2",
      "save 20",
    ]);
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(steps[0]?.learningRate).toBe(0.05);
    // The last batch of an epoch has 40 images.
    const weighted = steps.slice(0, 16).reduce((sum, { loss }, index) => sum + loss * (index === 15 ? 40 : 64), 0);
    expect(epochs[0]?.trainLoss).toBeCloseTo(weighted / 1000, 10);
    expect(epochs[0]?.validationLoss).toBe(null);
    await lenet.close();
  });

  test("leaves JavaScript's event loop alive", async () => {
    const lenet = lenet5({ seed: 2 });
    let training = true;
    const delays: number[] = [];
    const watch = async (): Promise<void> => {
      while (training) {
        const began = performance.now();
        await delay(5);
        delays.push(performance.now() - began - 5);
      }
    };
    const watching = watch();
    await lenet.fit(train, { epochs: 30, validation });
    training = false;
    await watching;
    delays.sort((a, b) => a - b);
    expect(delays.length).toBeGreaterThan(20);
    expect(delays[Math.floor(delays.length / 2)]).toBeLessThan(20);
    await lenet.close();
  });

  test("stops within a step when it is aborted, and resolves with what was done", async () => {
    const wide = model(input(28, 28, 1), (x) => x.conv(64, 5).relu().conv(64, 5).relu().maxPool(4).flatten().dense(10));
    const controller = new AbortController();
    let asked = Number.NaN;
    setTimeout(() => {
      asked = performance.now();
      controller.abort();
    }, 700);
    const result = await wide.fit(train, { epochs: 10_000, batchSize: 8, signal: controller.signal });
    expect(performance.now() - asked).toBeLessThan(1000);
    expect(result.stopped).toBe("aborted");
    expect(result.steps).toBeGreaterThan(0);
    await wide.close();
  });

  test("does nothing for a signal that was aborted before", async () => {
    const lenet = lenet5();
    const result = await lenet.fit(train, { signal: AbortSignal.abort() });
    expect(result).toMatchObject({
      steps: 0,
      epochs: 0,
      trainLoss: null,
      validationAccuracy: null,
      stopped: "aborted",
    });
    await lenet.close();
  });

  test.each([
    ["constant rate", sgd()],
    ["cycle of rate and momentum", sgd({ learningRate: oneCycle(0.05, { momentum: [0.5, 0.95] }) })],
  ])(
    "goes on where an abort left it, with a %s: the losses are those of a run that was not stopped",
    async (_, optimizer) => {
      const losses = async (stops: boolean): Promise<number[]> => {
        const lenet = lenet5({ seed: 3 });
        const seen: number[] = [];
        let state: FitState | undefined;
        do {
          const controller = new AbortController();
          if (stops) setTimeout(() => controller.abort(), 25);
          await fit(lenet.session, train, {
            optimizer,
            epochs: 6,
            seed: 3,
            signal: controller.signal,
            resume: state,
            callbacks: {
              onSteps: (steps) => void seen.push(...steps.map(({ loss }) => loss)),
              onSave: (saved) => {
                state = saved;
              },
            },
          });
        } while ((state?.step ?? 0) < 96);
        await lenet.close();
        return seen;
      };
      expect(await losses(true)).toEqual(await losses(false));
    },
  );

  test.each<[string, object, string]>([
    ["epochs and steps", { epochs: 1, steps: 1 }, "either epochs or steps"],
    ["a batch of 0", { batchSize: 0 }, 'a positive whole number for "batchSize" but received 0'],
    ["half an epoch", { epochs: 0.5 }, 'a positive whole number for "epochs" but received 0.5'],
    ["NaN steps", { steps: Number.NaN }, 'a positive whole number for "steps" but received NaN'],
    ["saving at every step but none", { saveEvery: 0 }, 'a positive whole number for "saveEvery" but received 0'],
    ["smoothing all of it", { labelSmoothing: 1 }, 'from 0 to below 1 for "labelSmoothing" but received 1'],
  ])("refuses %s", async (_, options, message) => {
    const lenet = lenet5();
    await expect(lenet.fit(train, options)).rejects.toThrow(message);
    await lenet.close();
  });

  test("says at which step the loss stopped being a number", async () => {
    const lenet = lenet5();
    const training = lenet.fit(train, { epochs: 20, optimizer: sgd({ learningRate: 1e6 }) });
    await expect(training).rejects.toMatchObject({ code: "NOT_FINITE", message: expect.stringMatching(/at step \d+/) });
    await lenet.close();
  });
});
