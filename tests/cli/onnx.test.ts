import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { loadOnnx } from "../../src/model/onnx.js";
import { Dataset, readNpy } from "../../src/native.js";
import { resnet20 } from "../../src/zoo/resnet.js";
import { fovea, foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist, writeNpyFile } from "../support/files.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const image = Float32Array.from({ length: 32 * 32 * 3 }, (_, index) => Math.sin(index));

beforeAll(() => foveaJson(["export", "resnet20", "--seed", "3", "--onnx", path("resnet20.onnx")]));

test("export writes a file of the size that it says, in either format", async () => {
  for (const [option, file] of [
    ["--onnx", path("lenet5.onnx")],
    ["--safetensors", path("lenet5.safetensors")],
  ] as const) {
    const result = await foveaJson(["export", "lenet5", option, file]);
    expect(result).toEqual({ file, bytes: statSync(file).size });
    expect(result["bytes"]).toBeGreaterThan(4 * 61706);
  }
});

test("an .onnx model takes and gives channels before pixels, and computes what the network does", async () => {
  const output = path("y.npy");
  const { shape } = await foveaJson([
    ...["run", path("resnet20.onnx"), "--output", output],
    ...["--input", writeNpyFile(path("x.npy"), channelsFirst(image), [1, 3, 32, 32])],
  ]);
  expect(shape).toEqual([1, 10]);
  const { data } = await readNpy(output);
  const [expected] = await resnet20({ seed: 3 }).predict(image);
  for (const [index, score] of expected?.entries() ?? []) expect(Number(data[index])).toBeCloseTo(score, 4);
});

test("a loaded model has the file's weights, trains further, and is saved again", async () => {
  const model = await loadOnnx(path("resnet20.onnx"));
  expect([model.inputShape, model.outputShape]).toEqual([[32, 32, 3], [10]]);
  const [before] = await model.predict(image);
  const dataset = Dataset.fromArrays(image, [1, 32, 32, 3], Uint32Array.of(7), 10);
  await model.fit(dataset, { steps: 5, batchSize: 1 });
  const [after] = await model.predict(image);
  expect(after?.[7]).toBeGreaterThan(before?.[7] ?? Number.POSITIVE_INFINITY);
  await model.save(path("further.onnx"));
  const [again] = await (await loadOnnx(path("further.onnx"))).predict(image);
  for (const [index, score] of after?.entries() ?? []) expect(again?.[index]).toBeCloseTo(score, 4);
  const other = resnet20({ seed: 4 });
  await other.load(path("resnet20.onnx"));
  const [loaded] = await other.predict(image);
  for (const [index, score] of before?.entries() ?? []) expect(loaded?.[index]).toBeCloseTo(score, 4);
});

test("an .onnx file is a model for the other commands, too", async () => {
  smallMnist(path("mnist"), { train: 200, test: 100 });
  const data = `mnist:${path("mnist")}`;
  await foveaJson(["train", "lenet5", "--data", data, "--out", path("run"), "--steps", "20"]);
  await foveaJson(["export", path("run"), "--onnx", path("trained.onnx")]);
  const [run, onnx] = await Promise.all([
    foveaJson(["eval", path("run"), "--data", data]),
    foveaJson(["eval", path("trained.onnx"), "--data", data]),
  ]);
  expect(onnx["accuracy"]).toBe(run["accuracy"]);
  expect(await foveaJson(["summary", path("trained.onnx")])).toMatchObject({ name: "lenet5", parameters: 61706 });
  const further = ["train", path("trained.onnx"), "--data", data, "--out", path("more"), "--steps", "1"];
  const { trainLoss } = await foveaJson(further);
  expect(trainLoss).toBeLessThan(2.2); // of untrained weights it is ln 10
});

test("what cannot be exported or imported is one line with its exit code", async () => {
  const line = async (...args: string[]) => {
    const { exitCode, stdout, stderr } = await fovea(args);
    expect([stdout, stderr.split("\n").length]).toEqual(["", 2]);
    return [exitCode, stderr.replaceAll(directory, "").trim()];
  };
  expect(await line("export", "lenet5")).toEqual([
    2,
    "error: Expected --onnx or --safetensors with the file to write.",
  ]);
  expect(await line("export", "lenet5", "--onnx", path("lenet5.bin"))).toEqual([
    2,
    'error: Expected --onnx with a name ending in .onnx but received "/lenet5.bin".',
  ]);
  writeFileSync(path("cut.onnx"), readFileSync(path("resnet20.onnx")).subarray(0, 5000));
  const [exitCode, message] = await line("summary", path("cut.onnx"));
  expect([exitCode, message]).toEqual([
    1,
    expect.stringMatching(/^error: Expected an ONNX model for "\/cut.onnx" but/),
  ]);
});

/** An image of 32 x 32 x 3 as ONNX has it. */
function channelsFirst(values: Float32Array): Float32Array {
  return Float32Array.from(values, (_, index) => values[(index % 1024) * 3 + Math.floor(index / 1024)] ?? 0);
}
