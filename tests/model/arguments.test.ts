import { afterAll, expect, test } from "vitest";
import { input } from "../../src/model/feature-map.js";
import { Model, model } from "../../src/model/model.js";
import { loadOnnx } from "../../src/model/onnx.js";
import { Dataset } from "../../src/native.js";
import { saveBest, saveCheckpoints } from "../../src/training/checkpoints.js";
import { findLearningRate } from "../../src/training/find-learning-rate.js";
import { initialState } from "../../src/training/fit-options.js";
import { sgd } from "../../src/training/optimizers.js";

const network = model(input(2, 2, 1), (x) => x.flatten().dense(3), { threads: 1 });
afterAll(() => network.close());
const data = Dataset.fromArrays(new Uint8Array(4 * 4), [4, 2, 2, 1], Uint32Array.of(0, 1, 2, 0));
const images = new Float32Array(4);
const batch = { images, targets: Uint32Array.of(1) };

/** Calls what the compiler would refuse. */
const call = (of: object, name: string, ...args: unknown[]): unknown => Reflect.apply(Reflect.get(of, name), of, args);

const methods = { fit: [data], trainStep: [batch], evaluate: [data], predict: [images], save: ["x"], load: ["x"] };

/** Wrong arguments by the sentence that refuses them. */
const refusals: readonly (readonly [name: string, args: readonly unknown[], sentence: string])[] = [
  ["predict", [], 'Expected a Float32Array for "images" but received undefined.'],
  ["predict", [null], 'Expected a Float32Array for "images" but received null.'],
  ["predict", [[0, 0, 0, 0]], 'Expected a Float32Array for "images" but received an Array.'],
  ["predict", [new Float64Array(4)], 'Expected a Float32Array for "images" but received a Float64Array.'],
  ["predict", [new Float32Array(5)], 'Expected a multiple of 4 values ([2, 2, 1]) for "images" but received 5 values.'],
  ["predict", [images, { averaged: "yes" }], "Expected arguments of the types that are declared but received others"],
  ["fit", [], 'Expected a data set of `datasets` for "train" but received undefined.'],
  ["fit", [images], 'Expected a data set of `datasets` for "train" but received a Float32Array.'],
  ["fit", [data, { validation: null }], 'Expected a data set of `datasets` for "validation" but received null.'],
  ["fit", [data, { epochs: "2" }], 'Expected a positive whole number for "epochs" but received 2.'],
  ["fit", [data, { batchSize: null }], 'Expected a positive whole number for "batchSize" but received null.'],
  ["fit", [data, { signal: "stop" }], 'Expected an AbortSignal for "signal" but received "stop".'],
  ["fit", [data, { callbacks: 1 }], 'Expected callbacks or a list of them for "callbacks" but received 1.'],
  ["fit", [data, { callbacks: [null] }], 'Expected callbacks or a list of them for "callbacks" but received an Array.'],
  ["fit", [data, { monitor: "loss" }], 'for "monitor" but received "loss".'],
  ["fit", [data, { resume: {} }], 'Expected a state from onSave or `resume` for "resume" but received an Object.'],
  ["fit", [data, { augment: "flip" }], 'Expected a list of objects for "augment" but received "flip".'],
  ["fit", [data, { optimizer: "sgd" }], 'for "optimizer" but received "sgd".'],
  ["fit", [data, { optimizer: { ...sgd(), groups: null } }], 'for "optimizer" but received an Object.'],
  [
    "fit",
    [data, { classWeights: "even" }],
    'Expected numbers or a Float32Array for "classWeights" but received "even".',
  ],
  ["fit", [data, { frozen: "conv1" }], 'Expected a list of strings for "frozen" but received "conv1".'],
  ["fit", [data, { seed: "1" }], "Expected arguments of the types that are declared but received others"],
  ["trainStep", [], 'Expected an object for "batch" but received undefined.'],
  ["trainStep", [{}], 'Expected a Uint8Array or Float32Array for "batch.images" but received undefined.'],
  ["trainStep", [{ images }], 'Expected a Uint32Array of classes or a Float32Array for "batch.targets" but received'],
  ["trainStep", [{ images: [0], targets: [0] }], 'for "batch.images" but received an Array.'],
  [
    "trainStep",
    [{ ...batch, images: new Float32Array(3) }],
    'Expected 4 values in "images" for 1 images but received 3.',
  ],
  ["trainStep", [batch, { optimizer: {} }], 'for "optimizer" but received an Object.'],
  ["trainStep", [batch, { learningRate: "0.1" }], "Expected arguments of the types that are declared"],
  ["evaluate", [], 'Expected a data set of `datasets` for "dataset" but received undefined.'],
  ["evaluate", [{}], 'Expected a data set of `datasets` for "dataset" but received an Object.'],
  ["evaluate", [data, { batchSize: 0 }], 'Expected a positive whole number for "batchSize" but received 0.'],
  ["evaluate", [data, { augment: {} }], 'Expected a list of objects for "augment" but received an Object.'],
  ["save", [], 'Expected a string for "path" but received undefined.'],
  ["save", [new URL("file:///x")], 'Expected a string for "path" but received a URL.'],
  ["load", [], 'Expected a string for "path" but received undefined.'],
  ["load", ["x", { except: "fc" }], 'Expected a list of strings for "except" but received "fc".'],
  ["saveCheckpoint", [undefined, initialState], 'Expected a string for "path" but received undefined.'],
  ["saveCheckpoint", ["x"], 'Expected an object for "state" but received undefined.'],
  ["resume", [7], 'Expected a string for "path" but received 7.'],
  ...Object.entries(methods).flatMap(([name, args]) =>
    [null, 5, []].map((options) => {
      const received = options === null ? "null" : Array.isArray(options) ? "an Array" : "5";
      return [name, [...args, options], `Expected an object for "options" but received ${received}.`] as const;
    }),
  ),
];

const refused = (sentence: string) =>
  expect.objectContaining({
    name: "FoveaError",
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining(sentence),
  });

test.each(refusals)("%s of arguments that are none is refused in one sentence, %#", async (name, args, sentence) => {
  const calling = call(network, name, ...args);
  await expect(calling).rejects.toThrow(refused(sentence));
  await expect(calling).rejects.toThrow(/^Expected [^\n]* but received [^\n]*\.$/);
});

test("functions that take or make models refuse what is none, too", async () => {
  const notModel = 'Expected a model for "model" but received undefined.';
  await expect(call({ findLearningRate }, "findLearningRate")).rejects.toThrow(refused(notModel));
  await expect(call({ findLearningRate }, "findLearningRate", network)).rejects.toThrow(refused('for "train"'));
  await expect(call({ findLearningRate }, "findLearningRate", network, data, null)).rejects.toThrow(refused("options"));
  await expect(call({ loadOnnx }, "loadOnnx", null)).rejects.toThrow(refused('a string for "path" but received null'));
  await expect(call({ loadOnnx }, "loadOnnx", "x", null)).rejects.toThrow(refused('for "options" but received null'));
  expect(() => call({ saveBest }, "saveBest")).toThrow(refused(notModel));
  expect(() => call({ saveCheckpoints }, "saveCheckpoints")).toThrow(refused(notModel));
  expect(() => Reflect.construct(Model, [undefined])).toThrow(refused('"definition" but received undefined'));
  expect(() => Reflect.construct(Model, [network.definition, null])).toThrow(refused('"options" but received null'));
  expect(() => call({ model }, "model")).toThrow(
    refused('a feature map of `input` for "image" but received undefined'),
  );
  expect(() => call({ model }, "model", input(1, 1, 1))).toThrow(refused('for "build" but received undefined'));
  expect(() => call({ model }, "model", input(1, 1, 1), () => {}, { name: "empty" })).toThrow(
    refused('Expected a layer or { output } for "empty.output" but received undefined.'),
  );
});
