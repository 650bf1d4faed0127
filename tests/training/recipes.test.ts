import { expect, test } from "vitest";
import { datasets } from "../../src/data/datasets.js";
import { runLength } from "../../src/training/fit-options.js";
import { learningRateAt } from "../../src/training/learning-rate.js";
import { describeOptimizer } from "../../src/training/optimizers.js";
import { type RecipeName, recipe, recipes } from "../../src/training/recipes.js";
import { architectures, lenet5 } from "../../src/zoo/index.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist } from "../support/files.js";

test("the paper's recipe for CIFAR has its rates: 0.1 divided by 10 at 32,000 and 48,000 of 64,000 steps", () => {
  const { steps, batchSize, optimizer } = recipe("resnet-cifar-paper");
  const length = runLength(50_000, { steps, batchSize });
  expect(length).toEqual({ steps: 64_000, stepsPerEpoch: 391 });
  const rates = [0, 31_999, 32_000, 47_999, 48_000, 63_999].map((step) => {
    return learningRateAt(optimizer.learningRate, step, length);
  });
  expect(rates).toEqual([0.1, 0.1, 0.01, 0.01, 0.001, 0.001].map((rate) => expect.closeTo(rate, 12)));
  expect(describeOptimizer(optimizer)).toBe(
    "sgd, learning rate 0.1, times 0.1 after 32000, 48000 steps, momentum 0.9, weight decay 0.0001",
  );
});

test("what a zoo model takes when nothing is said does not depend on the length of the run", () => {
  for (const { name, recipe } of architectures) {
    const rates = [200, 2000].map((steps) => learningRateAt(recipe.learningRate, 150, { steps, stepsPerEpoch: 100 }));
    expect(rates[0], name).toBe(rates[1]);
  }
});

test("every recipe is described and trains something", () => {
  for (const { description, batchSize, epochs, steps } of Object.values(recipes)) {
    expect(description).toMatch(/^[A-Z0-9]/);
    expect(runLength(1000, { epochs, steps, batchSize }).steps).toBeGreaterThan(0);
  }
  expect(() => recipe("cifar-faster" as RecipeName)).toThrow(/one of lenet5-mnist, .* received "cifar-faster"/);
});

test("a recipe is options of fit, and what is given beside them counts", async () => {
  const directory = smallMnist(temporaryDirectory(), { train: 1000, test: 100 });
  const { train } = await datasets.mnist({ directory });
  const lenet = lenet5();
  const result = await lenet.fit(train, { ...recipe("lenet5-mnist"), epochs: 4 });
  expect(result).toMatchObject({ steps: 64, epochs: 4 });
  expect(result.trainLoss).toBeLessThan(1.2);
  await lenet.close();
});
