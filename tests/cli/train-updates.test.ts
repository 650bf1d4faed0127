import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fovea, foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { readSafetensors, smallMnist } from "../support/files.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const data = `mnist:${smallMnist(path("mnist"), { train: 320, test: 100 })}`;
const train = (run: string, ...options: string[]): string[] => {
  return ["train", "lenet5", "--data", data, "--out", path(run), ...options];
};
const weights = (run: string): Buffer => readFileSync(join(path(run), "model.safetensors"));

/** The names of the tensors in which two runs' weights differ. */
function differing(one: string, other: string): string[] {
  const [a, b] = [one, other].map((run) => readSafetensors(join(path(run), "model.safetensors")));
  if (a === undefined || b === undefined) return [];
  return Object.entries(a.header)
    .filter(([name, { data_offsets }]) => {
      const at = b.header[name]?.data_offsets ?? [0, 0];
      return !a.data.subarray(...data_offsets).equals(b.data.subarray(...at));
    })
    .map(([name]) => name)
    .sort();
}

describe("4 steps, and 6 more by another process on another number of threads, are 10 steps, byte for byte, with", () => {
  test.each([
    ["sgd", "--nesterov"],
    ["adam", "--weight-decay", "0.01"],
    ["adamw", "--no-decay-norm"],
    ["rmsprop", "--momentum", "0.5"],
    ["lamb"],
    ["lars"],
  ])("%s", async (kind, ...more) => {
    const options = ["--optimizer", kind, ...more, "--batch", "48", "--augment", "crop:2,flip"];
    const extra = ["--ema", "0.9", "--clip-norm", "0.5", "--accumulate", "2", "--label-smoothing", "0.1"];
    await foveaJson(train(kind, "--steps", "10", ...options, ...extra, "--threads", "1"));
    await foveaJson(train(`${kind}-parts`, "--steps", "4", ...options, ...extra, "--threads", "2"));
    await foveaJson(["train", "--resume", path(`${kind}-parts`), "--steps", "10", "--threads", "1"]);
    expect(weights(`${kind}-parts`).equals(weights(kind))).toBe(true);
    await foveaJson(train(`${kind}-plain`, "--steps", "10", ...options, "--threads", "2"));
    expect(weights(`${kind}-plain`).equals(weights(kind))).toBe(false);
  });
});

test("with --ema the averages are judged, and written as the run's model", async () => {
  const { validationAccuracy } = await foveaJson(train("ema", "--epochs", "4", "--lr", "0.05", "--ema", "0.9"));
  const { accuracy, loss } = await foveaJson(["eval", path("ema"), "--data", data]);
  expect(accuracy).toBe(validationAccuracy);
  await foveaJson(train("no-ema", "--epochs", "4", "--lr", "0.05"));
  expect((await foveaJson(["eval", path("no-ema"), "--data", data]))["loss"]).not.toBe(loss);
});

test("--freeze keeps layers as they are", async () => {
  await foveaJson(train("start", "--steps", "1", "--lr", "1e-60", "--momentum", "0"));
  await foveaJson(train("frozen", "--steps", "5", "--freeze", "conv1", "fc2"));
  expect(differing("frozen", "start")).toEqual(
    ["conv2", "fc1", "fc3"].flatMap((name) => [`${name}.bias`, `${name}.weight`]),
  );
  const { exitCode, stderr } = await fovea(train("refused", "--steps", "5", "--freeze", "conv9"));
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining('"conv9"')]);
});

test("--weights and --except begin with all weights but those of the head", async () => {
  await foveaJson(train("body", "--steps", "5", "--seed", "3"));
  const file = join(path("body"), "model.safetensors");
  const still = ["--steps", "1", "--lr", "1e-60", "--momentum", "0"];
  await foveaJson(train("fresh", ...still));
  await foveaJson(train("tuned", ...still, "--weights", file, "--except", "fc3"));
  expect(differing("tuned", "body")).toEqual(["fc3.bias", "fc3.weight"]);
  expect(differing("tuned", "fresh")).not.toContain("fc3.weight");
  const { exitCode, stderr } = await fovea(train("refused-2", "--except", "fc3"));
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining("--except beside --weights")]);
});

test.each([
  ["momentum of adam", ["--optimizer", "adam", "--momentum", "0.5"], /--momentum to be left out with adam/],
  [
    "Nesterov's momentum of rmsprop",
    ["--optimizer", "rmsprop", "--nesterov"],
    /--nesterov to be left out with rmsprop/,
  ],
  ["a norm of 0", ["--clip-norm", "0"], /--clip-norm.*positive number/],
  ["an average that never moves", ["--ema", "1"], /--ema.*from 0 to below 1/],
])("%s is refused", async (_, options, message) => {
  const { exitCode, stderr } = await fovea(train("refused", ...options));
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(message);
});
