import { join } from "node:path";
import { expect, test } from "vitest";
import { input, type Model, model } from "../../src/index.js";
import { sgd } from "../../src/training/optimizers.js";
import type { TrainStepOptions } from "../../src/training/train-step.js";
import { temporaryDirectory } from "../support/directory.js";
import { readSafetensors } from "../support/files.js";

const directory = temporaryDirectory();
const images = Float32Array.from({ length: 6 * 16 }, (_, index) => ((index * 37) % 101) / 101);
const targets = Uint32Array.from({ length: 6 }, (_, image) => image % 3);

function small(): Model {
  return model(input(4, 4, 1), (x) =>
    x.conv(4, 3, { name: "conv", bias: false }).batchNorm({ name: "bn" }).relu().flatten().dense(3, { name: "fc" }),
  );
}

/** Tensors of a new network after some steps, as bytes in hexadecimal. */
async function trained(options: TrainStepOptions, steps = 2): Promise<Map<string, string>> {
  const network = small();
  for (let step = 0; step < steps; step += 1) await network.trainStep({ images, targets }, options);
  const path = join(directory, "weights.safetensors");
  await network.save(path);
  await network.close();
  const { header, data } = readSafetensors(path);
  return new Map(
    Object.entries(header).map(([name, { data_offsets }]) => [name, data.subarray(...data_offsets).toString("hex")]),
  );
}

/** The names of what differs. */
function differing(one: Map<string, string>, other: Map<string, string>): string[] {
  return [...one.keys()].filter((name) => one.get(name) !== other.get(name)).sort();
}

const plain = { momentum: 0, learningRate: 0.1 };

test("weight decay spares norms and biases where it is told to", async () => {
  const without = await trained({ optimizer: sgd(plain) }, 1);
  const everywhere = await trained({ optimizer: sgd({ ...plain, weightDecay: 0.5 }) }, 1);
  const sparing = await trained({ optimizer: sgd({ ...plain, weightDecay: 0.5, noDecay: "norm-and-bias" }) }, 1);
  // Biases begin at zero, of which nothing can be taken away in the first step.
  expect(differing(without, everywhere)).toEqual(["bn.weight", "conv.weight", "fc.weight"]);
  expect(differing(without, sparing)).toEqual(["conv.weight", "fc.weight"]);
});

test("groups have a rate and a decay of their own, by the names of layers and parameters", async () => {
  const start = await trained({}, 0);
  const groups = [
    { layers: ["fc.bias"], learningRateScale: 1 },
    { layers: ["fc", "bn"], learningRateScale: 0 },
  ];
  const grouped = await trained({ optimizer: sgd({ ...plain, groups }) });
  expect(differing(start, grouped)).toEqual([
    ...["bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "conv.weight", "fc.bias"],
  ]);
  const unknown = sgd({ groups: [{ layers: ["fc9"] }] });
  await expect(trained({ optimizer: unknown })).rejects.toThrow('for "groups.layers" but received "fc9".');
});

test("frozen layers keep weights, running statistics and the count of batches", async () => {
  const changed = differing(await trained({}, 0), await trained({ frozen: ["conv", "bn"] }));
  expect(changed).toEqual(["fc.bias", "fc.weight"]);
});

test("probabilities of classes train as the classes themselves where they are certain", async () => {
  const certain = Float32Array.from({ length: 18 }, (_, index) =>
    targets[Math.floor(index / 3)] === index % 3 ? 1 : 0,
  );
  const [one, other] = [small(), small()];
  for (let step = 0; step < 3; step += 1) {
    const byClass = await one.trainStep({ images, targets });
    const byShare = await other.trainStep({ images, targets: certain });
    expect(byShare.loss).toBeCloseTo(byClass.loss, 5);
    expect(byShare.correct).toBe(byClass.correct);
  }
  await Promise.all([one.close(), other.close()]);
});

test("the losses of several outputs, each of its own kind, are added with their weights", async () => {
  const network = model(input(4, 4, 1), (x) => {
    const scores = x.flatten().dense(3);
    const head = { output: scores.affine(2), lossWeight: 0.25, loss: { kind: "binaryCrossEntropy" } } as const;
    return { output: scores, loss: { kind: "meanSquaredError" }, auxiliary: [head] };
  });
  const values = Float32Array.from({ length: 18 }, (_, index) => ((index * 5) % 7) / 7);
  const scores = (await network.predict(images)).flatMap((row) => [...row]);
  const mean = (of: (score: number, target: number) => number): number =>
    scores.reduce((sum, score, index) => sum + of(score, values[index] ?? Number.NaN), 0) / 18;
  const squared = mean((score, target) => (score - target) ** 2);
  const entropy = mean((score, target) => Math.log1p(Math.exp(2 * score)) - 2 * score * target);
  const { loss } = await network.trainStep({ images, targets: values });
  expect(loss).toBeCloseTo(squared + 0.25 * entropy, 5);
  expect((await network.trainStep({ images, targets: values })).loss).toBeLessThan(loss);
  await network.close();
});

test("the learning rate is the caller's, else the base rate of the optimizer", async () => {
  const byDefault = await trained({ optimizer: sgd({ learningRate: 0.25 }) });
  expect(differing(byDefault, await trained({ optimizer: sgd(), learningRate: 0.25 }))).toEqual([]);
  expect(differing(byDefault, await trained({ optimizer: sgd(), learningRate: 0.125 }))).not.toEqual([]);
  const moving = sgd({ learningRate: (step) => 1 / (step + 1) });
  await expect(trained({ optimizer: moving })).rejects.toThrow('"learningRate"');
});
