import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { input } from "../../src/model/feature-map.js";
import { Model, type ModelOptions, model } from "../../src/model/model.js";

const directory = await mkdtemp(join(tmpdir(), "fovea-model-"));
afterAll(() => rm(directory, { recursive: true }));

const tiny = (options?: ModelOptions) =>
  model(input(6, 5, 2), (x) => x.conv(3, 3).relu().flatten().dense(4), { threads: 1, ...options });
const images = Float32Array.from({ length: 2 * 60 }, (_, index) => Math.sin(index));

test("predict gives one array of scores for each image", async () => {
  const network = tiny();
  const both = await network.predict(images);
  const [second] = await network.predict(images.subarray(60));
  expect(both.map((scores) => scores.length)).toEqual([4, 4]);
  expect(both[1]).toEqual(second);
  expect(both[0]).not.toEqual(second);
});

test("the seed decides the first weights", async () => {
  const [one, same, other] = await Promise.all([1, 1, 2].map((seed) => tiny({ seed }).predict(images)));
  expect(same).toEqual(one);
  expect(other).not.toEqual(one);
});

test("saved weights give another model of the same definition the same scores", async () => {
  const path = join(directory, "tiny.safetensors");
  const saved = tiny({ seed: 3 });
  expect(await saved.save(path)).toBeGreaterThan(4 * (3 * 18 + 3 + 36 * 4 + 4));
  const loaded = new Model(saved.definition);
  await loaded.load(path);
  expect(await loaded.predict(images)).toEqual(await saved.predict(images));
});

test.each([0, 59, 61])("%d values are no number of images of 6 x 5 x 2", async (length) => {
  await expect(tiny().predict(new Float32Array(length))).rejects.toThrow(
    expect.objectContaining({
      code: "INVALID_ARGUMENT",
      message: `Expected a multiple of 60 values ([6, 5, 2]) for "images" but received ${length} values.`,
    }),
  );
});

test("the session has the sizes and parameters that the definition says", async () => {
  const network = tiny();
  expect(network.session.outputSize).toBe(network.outputSize);
  expect(network.session.parameters()).toEqual([
    { name: "conv1.weight", shape: [3, 2, 3, 3] },
    { name: "conv1.bias", shape: [3] },
    { name: "dense1.weight", shape: [4, 36] },
    { name: "dense1.bias", shape: [4] },
  ]);
});
