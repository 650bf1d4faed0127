import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { datasets } from "../../src/data/datasets.js";
import { findLearningRate } from "../../src/training/find-learning-rate.js";
import { sgd } from "../../src/training/optimizers.js";
import { lenet5 } from "../../src/zoo/index.js";
import { fovea, foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist } from "../support/files.js";

const directory = temporaryDirectory();
const mnist = smallMnist(join(directory, "mnist"), { train: 1000, test: 100 });
const { train } = await datasets.mnist({ directory: mnist });

describe("findLearningRate", () => {
  test("raises the rate until the loss explodes, and suggests a tenth of the one with the lowest", async () => {
    const lenet = lenet5({ seed: 1 });
    const { points, suggestion } = await findLearningRate(lenet, train, { highest: 1e6 });
    const rates = points.map(({ learningRate }) => learningRate);
    expect(rates[0]).toBe(1e-6);
    expect(rates.at(-1)).toBeLessThan(1e5);
    const factors = rates.slice(1).map((rate, index) => rate / (rates[index] ?? Number.NaN));
    expect(Math.max(...factors) / Math.min(...factors)).toBeCloseTo(1, 9);
    const lowest = points.reduce((best, point) => (point.loss < best.loss ? point : best));
    expect(suggestion).toBeCloseTo(lowest.learningRate / 10, 3);
    const result = await lenet.fit(train, { epochs: 3, optimizer: sgd({ learningRate: suggestion }) });
    expect(result.trainLoss).toBeLessThan(1);
    await lenet.close();
  });

  test("leaves weights and optimizer state as they were", async () => {
    const saved = async (search: boolean): Promise<Buffer> => {
      const lenet = lenet5({ seed: 2 });
      let state: Parameters<typeof lenet.saveCheckpoint>[1] | undefined;
      const callbacks = {
        onSave(saved: typeof state) {
          state = saved;
        },
      };
      await lenet.fit(train, { steps: 5, callbacks });
      if (search) await findLearningRate(lenet, train, { tries: 8, seed: 7 });
      await lenet.fit(train, { steps: 10, resume: state });
      await lenet.save(join(directory, "weights"));
      await lenet.close();
      return readFileSync(join(directory, "weights"));
    };
    expect((await saved(true)).equals(await saved(false))).toBe(true);
  });

  test("stops by a signal, and refuses a range that is none", async () => {
    const lenet = lenet5();
    const stopped = findLearningRate(lenet, train, { signal: AbortSignal.abort() });
    await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
    await expect(findLearningRate(lenet, train, { lowest: 1, highest: 0.1 })).rejects.toThrow(
      'Expected a positive rate below 0.1 for "lowest" but received 1.',
    );
    await expect(findLearningRate(lenet, train, { tries: 1 })).rejects.toThrow('"tries" but received 1');
    await lenet.close();
  });
});

test("train --find-lr prints rates, losses and a suggestion, and writes nothing", async () => {
  const command = ["train", "lenet5", "--data", `mnist:${mnist}`, "--find-lr"];
  const { exitCode, stdout } = await fovea(command, directory);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^learning rate +loss\s/);
  const { suggestion, points } = await foveaJson(command, directory);
  expect(stdout).toContain(`try --lr ${suggestion}\n`);
  expect(points).toContainEqual({ learningRate: 1e-6, loss: expect.any(Number) });
});
