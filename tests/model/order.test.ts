import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { input } from "../../src/model/feature-map.js";
import { type Model, model } from "../../src/model/model.js";
import { Dataset } from "../../src/native.js";
import { findLearningRate } from "../../src/training/find-learning-rate.js";
import type { FitState } from "../../src/training/fit-options.js";
import { temporaryDirectory } from "../support/directory.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const tiny = () => model(input(8, 8, 1), (x) => x.conv(8, 3).relu().flatten().dense(3), { name: "tiny", threads: 1 });
const pixels = Uint8Array.from({ length: 96 * 64 }, (_, index) => (index * 7) % 256);
const labels = Uint32Array.from({ length: 96 }, (_, image) => image % 3);
const data = Dataset.fromArrays(pixels, [96, 8, 8, 1], labels);
const images = new Float32Array(64).fill(0.5);
const batch = { images, targets: Uint32Array.of(1) };
const long = { epochs: 1_000_000 };

/** Everything that would change weights between the steps of a training. */
const changes: readonly (readonly [string, (network: Model) => Promise<unknown>])[] = [
  ["fit", (network) => network.fit(data, { epochs: 1 })],
  ["trainStep", (network) => network.trainStep(batch)],
  ["load", (network) => network.load(path("weights.safetensors"))],
  ["load", (network) => network.load(path("weights.onnx"))],
  ["resume", (network) => network.resume(path("checkpoint"))],
  ["findLearningRate", (network) => findLearningRate(network, data, { tries: 3 })],
];

describe("while fit runs", () => {
  test.each(changes)("%s is refused, and works when it has ended", async (name, change) => {
    const network = tiny();
    await Promise.all(["weights.safetensors", "weights.onnx"].map((file) => network.save(path(file))));
    let state: FitState | undefined;
    const onSave = async (saved: FitState): Promise<void> => {
      state = saved;
      await network.saveCheckpoint(path("checkpoint"), saved);
    };
    const controller = new AbortController();
    const training = network.fit(data, { ...long, signal: controller.signal, callbacks: { onSave } });
    await expect(change(network)).rejects.toMatchObject({
      name: "FoveaError",
      code: "BUSY",
      message: `Expected a model that nothing trains for "${name}" but received one that "fit" trains at present.`,
    });
    while (state === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort();
    expect((await training).stopped).toBe("aborted");
    await change(network);
    await network.close();
  });

  test("predictions, evaluations and saves come between two steps, and change nothing", async () => {
    const losses = async (disturbed: boolean): Promise<number[]> => {
      const network = tiny();
      const seen: number[] = [];
      const callbacks = {
        onSteps: (steps: readonly { loss: number }[]) => void seen.push(...steps.map((s) => s.loss)),
      };
      let training = true;
      const fitting = network.fit(data, { epochs: 60, batchSize: 8, callbacks }).finally(() => {
        training = false;
      });
      const answers: Float32Array[] = [];
      while (disturbed && training) {
        answers.push(...(await network.predict(images)));
        expect((await network.evaluate(data)).images).toBe(96);
        await network.save(path("between.safetensors"));
      }
      await fitting;
      // They were answered while the weights changed.
      if (disturbed) expect(new Set(answers.map((scores) => scores.join())).size).toBeGreaterThan(1);
      await network.close();
      return seen;
    };
    expect(await losses(true)).toEqual(await losses(false));
  });

  test("its abort leaves alone what else was asked for", async () => {
    const network = tiny();
    const many = Dataset.fromArrays(new Uint8Array(50_000 * 64), [50_000, 8, 8, 1], new Uint32Array(50_000), 3);
    const controller = new AbortController();
    const training = network.fit(data, { ...long, signal: controller.signal });
    const evaluation = network.evaluate(many, { batchSize: 16 });
    await network.predict(images); // asked for behind the evaluation, so that this has ended or not begun
    const second = network.evaluate(many, { batchSize: 16 });
    setTimeout(() => controller.abort(), 2);
    const [{ stopped }, ...evaluations] = await Promise.all([training, evaluation, second]);
    expect(stopped).toBe("aborted");
    for (const { images } of evaluations) expect(images).toBe(50_000);
    await network.close();
  });
});

test("a search for a learning rate refuses other training, too, and a fit that was refused or failed ends nothing", async () => {
  const network = tiny();
  const search = findLearningRate(network, data, { tries: 20 });
  await expect(network.fit(data)).rejects.toMatchObject({
    message:
      'Expected a model that nothing trains for "fit" but received one that "findLearningRate" trains at present.',
  });
  await expect(network.fit(data)).rejects.toMatchObject({ code: "BUSY" });
  expect((await search).points.length).toBeGreaterThan(1);
  await expect(network.fit(data, { epochs: 0 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  expect((await network.fit(data, { steps: 2 })).steps).toBe(2);
  await network.close();
});

test("steps, loads and predictions are done in the order in which they were asked for", async () => {
  const [together, alone] = [tiny(), tiny()];
  await alone.save(path("first.safetensors"));
  await alone.save(path("first.onnx"));
  const [first, , second, , third, , fourth] = await Promise.all([
    together.predict(images),
    together.trainStep(batch),
    together.predict(images),
    together.load(path("first.onnx")),
    together.predict(images),
    together.fit(data, { steps: 3, shuffle: false }),
    together.predict(images),
  ]);
  expect(await alone.predict(images)).toEqual(first);
  expect(third).toEqual(first);
  await alone.trainStep(batch);
  expect(await alone.predict(images)).toEqual(second);
  expect(second).not.toEqual(first);
  expect(fourth).toHaveLength(1);
  await Promise.all([together.close(), alone.close()]);
});
