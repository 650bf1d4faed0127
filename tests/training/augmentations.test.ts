import { describe, expect, test } from "vitest";
import { augment, parseAugmentation, resolveAugmentations } from "../../src/data/augmentations.js";
import { datasets } from "../../src/data/datasets.js";
import { input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import type { FitOptions } from "../../src/training/fit-options.js";

describe("augmentations as text", () => {
  test.each([
    ["flip", [augment.flip()]],
    ["flip:0.25,crop:4", [augment.flip({ probability: 0.25 }), augment.crop({ padding: 4 })]],
    ["crop:2:reflect, cutout:8", [augment.crop({ padding: 2, fill: "reflect" }), augment.cutout({ size: 8 })]],
    ["resized-crop", [augment.resizedCrop()]],
    ["resized-crop:0.25", [augment.resizedCrop({ scale: [0.25, 1] })]],
    ["jitter:0.4", [augment.jitter({ brightness: 0.4, contrast: 0.4, saturation: 0.4 })]],
    ["jitter:0.4:0.3:0", [augment.jitter({ brightness: 0.4, contrast: 0.3, saturation: 0 })]],
    ["mixup:1,normalize:cifar10", [augment.mixup({ alpha: 1 }), augment.normalize("cifar10")]],
    ["normalize", [augment.normalize()]],
  ])("%s", (text, expected) => {
    expect(parseAugmentation(text)).toEqual(expected);
  });

  test.each(["", "blur", "crop", "crop:x", "crop:4:mirror", "flip:", "flip:1:2", "normalize:svhn", "flip,,flip"])(
    "%o is refused with the forms there are",
    (text) => {
      const message = /^Expected flip\[:PROBABILITY\], crop:.* for "augment" but received "/;
      expect(() => parseAugmentation(text)).toThrow(message);
    },
  );
});

/** Six images of 4 x 4 x 1 in three classes. */
const values = Float32Array.from({ length: 6 * 16 }, (_, index) => ((index * 37) % 101) / 101);
const data = datasets.fromArrays(values, [6, 4, 4, 1], [0, 1, 2, 0, 1, 2]);
const network = (threads = 1) =>
  model(input(4, 4, 1), (x) => x.conv(4, 3, { padding: "same" }).relu().flatten().dense(3), { threads });

describe("normalisation", () => {
  test("is computed from the training images where nothing is said", async () => {
    const { mean, deviation } = await data.statistics();
    const [flip, normalize] = await resolveAugmentations([augment.flip(), augment.normalize()], data);
    expect(flip).toEqual(augment.flip());
    expect(normalize).toEqual({ kind: "normalize", mean, deviation });
  });

  test("is all that evaluation keeps", async () => {
    const normalize = augment.normalize({ mean: [0.5], deviation: [0.25] });
    const list = [augment.crop({ padding: 2 }), augment.cutout({ size: 3 }), normalize];
    const normalized = values.map((value) => (value - 0.5) / 0.25);
    const net = network();
    const { loss } = await net.evaluate(data, { augment: list });
    const expected = await net.evaluate(datasets.fromArrays(normalized, [6, 4, 4, 1], [0, 1, 2, 0, 1, 2]));
    expect(loss).toBeCloseTo(expected.loss, 5);
    expect(loss).not.toBeCloseTo((await net.evaluate(data)).loss, 3);
    await net.close();
  });
});

test("evaluation in the mirror, too, does not tell an image from its mirror image", async () => {
  const mirrored = values.map((_, index) => values[index - (index % 4) + 3 - (index % 4)] ?? Number.NaN);
  const mirror = datasets.fromArrays(mirrored, [6, 4, 4, 1], [0, 1, 2, 0, 1, 2]);
  const net = network();
  const both = await net.evaluate(data, { mirrored: true });
  expect(await net.evaluate(mirror, { mirrored: true })).toEqual(both);
  expect(both.loss).not.toBeCloseTo((await net.evaluate(data)).loss, 5);
  await net.close();
});

test("a run that is augmented, stopped within an epoch and resumed on other threads has the same losses", async () => {
  const list = [
    augment.resizedCrop({ scale: [0.4, 1] }),
    augment.crop({ padding: 1 }),
    augment.flip(),
    augment.mixup(),
    augment.normalize(),
  ];
  const losses = async (threads: number, parts: readonly number[]): Promise<number[]> => {
    const net = network(threads);
    const all: number[] = [];
    let resume: FitOptions["resume"];
    for (const steps of parts) {
      await net.fit(data, {
        ...{ steps, resume, batchSize: 4, seed: 3, augment: list },
        callbacks: {
          onSteps: (metrics) => void all.push(...metrics.map(({ loss }) => loss)),
          onSave: (state) => {
            resume = state;
          },
        },
      });
    }
    await net.close();
    return all;
  };
  const whole = await losses(1, [9]);
  expect(new Set(whole).size).toBe(9);
  expect(await losses(2, [9])).toEqual(whole);
  expect(await losses(2, [4, 9])).toEqual(whole);
});

test("mixup trains on the mixed image with both labels", async () => {
  const net = network();
  const pair = datasets.fromArrays(values.slice(0, 32), [2, 4, 4, 1], [0, 2], 3);
  // A large alpha leaves no share but a half.
  const mixed = Float32Array.from({ length: 16 }, (_, index) => ((values[index] ?? 0) + (values[16 + index] ?? 0)) / 2);
  const scores = [...((await net.predict(mixed))[0] ?? [])];
  const logSum = Math.log(scores.reduce((total, score) => total + Math.exp(score), 0));
  const expected = logSum - ((scores[0] ?? 0) + (scores[2] ?? 0)) / 2;
  const { trainLoss } = await net.fit(pair, { steps: 1, batchSize: 2, augment: [augment.mixup({ alpha: 1e7 })] });
  expect(trainLoss).toBeCloseTo(expected, 3);
  await net.close();
});

test.each([
  [[augment.crop({ padding: 5 })], /^Expected at most 4 pixels for "augment\[0\]\.padding" but received 5\.$/],
  [[augment.flip(), augment.resizedCrop()], /^Expected resizedCrop to come first for "augment\[1\]\.kind"/],
  [[augment.normalize("cifar10")], /^Expected 1 finite numbers, one for each channel, for "augment\[0\]\.mean"/],
])("%o is refused before training begins", async (list, message) => {
  const net = network();
  await expect(net.fit(data, { steps: 1, augment: list })).rejects.toThrow(message);
  await net.close();
});
