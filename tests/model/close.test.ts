import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { input } from "../../src/model/feature-map.js";
import { type Model, model } from "../../src/model/model.js";
import { Dataset } from "../../src/native.js";
import { findLearningRate } from "../../src/training/find-learning-rate.js";
import { initialState } from "../../src/training/fit-options.js";
import { temporaryDirectory } from "../support/directory.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const tiny = () => model(input(6, 6, 1), (x) => x.conv(4, 3).flatten().dense(3), { name: "tiny", threads: 1 });
const images = new Float32Array(36);
const pixels = Uint8Array.from({ length: 64 * 36 }, (_, index) => (index * 7) % 256);
const data = Dataset.fromArrays(
  pixels,
  [64, 6, 6, 1],
  Uint32Array.from({ length: 64 }, (_, image) => image % 3),
);

/** Everything that needs a model's weights. */
const uses: readonly (readonly [string, (network: Model) => Promise<unknown>])[] = [
  ["fit", (network) => network.fit(data)],
  ["trainStep", (network) => network.trainStep({ images, targets: Uint32Array.of(1) })],
  ["evaluate", (network) => network.evaluate(data)],
  ["predict", (network) => network.predict(images)],
  ["save", (network) => network.save(path("saved.safetensors"))],
  ["save as ONNX", (network) => network.save(path("saved.onnx"))],
  ["saveCheckpoint", (network) => network.saveCheckpoint(path("saved.checkpoint"), initialState)],
  ["load", (network) => network.load(path("whole.safetensors"))],
  ["load from ONNX", (network) => network.load(path("whole.onnx"))],
  ["resume", (network) => network.resume(path("whole.checkpoint"))],
  ["findLearningRate", (network) => findLearningRate(network, data)],
];

describe.each(uses)("%s", async (_, use) => {
  const closed = { name: "FoveaError", code: "CLOSED", message: 'Expected "tiny" to be open but it was closed.' };

  test("is refused by a model that was closed", async () => {
    const network = tiny();
    await Promise.all(["whole.safetensors", "whole.onnx"].map((name) => network.save(path(name))));
    await network.saveCheckpoint(path("whole.checkpoint"), initialState);
    await network.close();
    await expect(use(network)).rejects.toMatchObject(closed);
  });

  test("is refused by a model that was closed before its first use", async () => {
    const network = tiny();
    await network.close();
    await expect(use(network)).rejects.toMatchObject(closed);
  });

  test("is refused while the model closes", async () => {
    const network = tiny();
    await network.predict(images);
    const closing = network.close();
    await expect(use(network)).rejects.toMatchObject(closed);
    await closing;
  });
});

test("nothing is written by a model that was closed", () => {
  for (const name of ["saved.safetensors", "saved.onnx", "saved.checkpoint"])
    expect(existsSync(path(name))).toBe(false);
});

test("closing twice is closing once, and what a model is made of is still known", async () => {
  const network = tiny();
  await network.predict(images);
  await Promise.all([network.close(), network.close()]);
  await network.close();
  expect(network.summary()).toContain("tiny");
  expect(network.outputShape).toEqual([3]);
});

test("a model that is closed ends its training and evaluation with the code CLOSED, and keeps what was saved before", async () => {
  const network = tiny();
  const training = network.fit(data, { epochs: 1_000_000 });
  const refused = expect(training).rejects.toMatchObject({ code: "CLOSED" });
  await new Promise((resolve) => setTimeout(resolve, 100));
  const saved = network.save(path("before.safetensors"));
  const large = Dataset.fromArrays(new Uint8Array(200_000 * 36), [200_000, 6, 6, 1], new Uint32Array(200_000), 3);
  const evaluated = expect(network.evaluate(large, { batchSize: 8 })).rejects.toMatchObject({ code: "CLOSED" });
  await network.close();
  await Promise.all([refused, evaluated]);
  expect(await saved).toBeGreaterThan(0);
  const other = tiny();
  await other.load(path("before.safetensors"));
  await other.close();
});
