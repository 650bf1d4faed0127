import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { datasets } from "../../src/data/datasets.js";
import { lenet5 } from "../../src/zoo/index.js";
import { fovea, foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { readSafetensors, smallMnist } from "../support/files.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const mnist = smallMnist(path("mnist"), { train: 320, test: 100 });
const data = `mnist:${mnist}`;
const train = (run: string, ...options: string[]): string[] => {
  return ["train", "lenet5", "--data", data, "--out", path(run), ...options];
};
const weights = (run: string): Buffer => readFileSync(join(path(run), "model.safetensors"));
const config = (run: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(path(run), "config.json"), "utf8"));

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

// An epoch has seven steps.
describe("5 steps, and 5 more by another process on another number of threads, are 10 steps, byte for byte, with", () => {
  test.each([
    ["sgd", "--nesterov", "--group", "conv1,fc3=0.5:0.001"],
    ["adam", "--weight-decay", "0.01", "--class-weights", "balanced"],
    ["adamw", "--no-decay-norm"],
    ["rmsprop:centered=true", "--momentum", "0.5", "--validation", "0.1"],
    ["lamb"],
    ["lars"],
  ])("%s", async (optimizer, ...more) => {
    const options = ["--optimizer", optimizer, ...more, "--batch", "48", "--augment", "crop:2,flip"];
    const kind = optimizer.replace(/:.*/, "");
    const extra = ["--ema", "0.9", "--clip-norm", "0.5", "--accumulate", "2", "--label-smoothing", "0.1"];
    await foveaJson(train(kind, "--steps", "10", ...options, ...extra, "--threads", "1"));
    await foveaJson(train(`${kind}-parts`, "--steps", "5", ...options, ...extra, "--threads", "2"));
    await foveaJson(["train", "--resume", path(`${kind}-parts`), "--steps", "10", "--threads", "1"]);
    expect(weights(`${kind}-parts`).equals(weights(kind))).toBe(true);
    await foveaJson(train(`${kind}-plain`, "--steps", "10", ...options, "--threads", "2"));
    expect(weights(`${kind}-plain`).equals(weights(kind))).toBe(false);
  });
});

describe("--optimizer", () => {
  test("takes an optimizer's other settings, which a run that goes on keeps", async () => {
    await foveaJson(train("settings", "--steps", "1", "--optimizer", "adamw:beta2=0.95:epsilon=1e-6", "--lr", "0.002"));
    const settings = { kind: "adamw", beta1: 0.9, beta2: 0.95, epsilon: 1e-6 };
    expect(config("settings")["optimizer"]).toMatchObject(settings);
    await foveaJson(["train", "--resume", path("settings"), "--steps", "2", "--optimizer", "adamw:beta1=0.8"]);
    expect(config("settings")["optimizer"]).toMatchObject({ ...settings, beta1: 0.8 });
  });

  test.each([
    ["a setting of another optimizer", "adam:alpha=0.5", /Expected beta1=VALUE, beta2=VALUE, epsilon=VALUE after adam/],
    ["a setting of one that has none", "sgd:beta1=0.5", /Expected no setting after sgd but received "beta1=0.5"/],
    ["a beta of 1", "adam:beta1=1", /from 0 to below 1 but received "1"/],
    ["half a truth", "rmsprop:centered=half", /true or false but received "half"/],
  ])("refuses %s", async (_, text, message) => {
    const { exitCode, stderr } = await fovea(train("refused-3", "--optimizer", text));
    expect([exitCode, stderr]).toEqual([2, expect.stringMatching(message)]);
  });
});

test("--group gives layers a rate and a decay of their own", async () => {
  await foveaJson(train("begun", "--steps", "1", "--lr", "1e-60", "--momentum", "0"));
  const groups = ["--group", "conv1,conv2=0", "--group", "fc3=10:0"];
  await foveaJson(train("grouped", "--steps", "2", ...groups));
  expect(config("grouped")["optimizer"]).toMatchObject({
    groups: [
      { layers: ["conv1", "conv2"], learningRateScale: 0 },
      { layers: ["fc3"], learningRateScale: 10, weightDecay: 0 },
    ],
  });
  expect(differing("grouped", "begun")).toEqual(
    ["fc1", "fc2", "fc3"].flatMap((name) => [`${name}.bias`, `${name}.weight`]),
  );
  const { exitCode, stderr } = await fovea(train("refused-4", "--group", "conv1"));
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining('LAYERS=SCALE:DECAY but received "conv1"')]);
});

test("--class-weights weighs the classes' losses, balanced by how often the training images have them", async () => {
  const { train: images } = await datasets.mnist({ directory: mnist });
  const typed = images.classWeights().join();
  await foveaJson(train("balanced", "--steps", "3", "--class-weights", "balanced"));
  await foveaJson(train("weighed", "--steps", "3", "--class-weights", typed));
  await foveaJson(train("unweighed", "--steps", "3"));
  expect(weights("weighed").equals(weights("balanced"))).toBe(true);
  expect(weights("unweighed").equals(weights("balanced"))).toBe(false);
  const { exitCode, stderr } = await fovea(train("refused-5", "--steps", "1", "--class-weights", "1,2,3"));
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining('Expected 10 weights for "classWeights"')]);
});

test("--validation keeps a share of the training images and leaves the test images alone", async () => {
  const { stdout } = await fovea(train("split", "--epochs", "1", "--validation", "0.25", "--seed", "4"));
  const { train: images } = await datasets.mnist({ directory: mnist });
  const [most, rest] = images.split(0.25, 4);
  expect(stdout).toContain(`${most.length} images, ${rest.length} to validate`);
  expect(stdout).toContain("1 epoch of 4 steps");
  const lenet = lenet5({ seed: 4 });
  const { recipe: optimizer } = lenet5.architecture;
  const { trainLoss, validationAccuracy } = await lenet.fit(most, { epochs: 1, seed: 4, optimizer, validation: rest });
  await lenet.close();
  const lines = readFileSync(join(path("split"), "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n");
  expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ trainLoss, validationAccuracy });
  const resume = ["train", "--resume", path("split"), "--validation"];
  expect(await foveaJson([...resume, "0.25", "--epochs", "2"])).toMatchObject({ steps: 8 });
  const { exitCode, stderr } = await fovea([...resume, "0.5"]);
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringContaining("--validation to be left out with --resume, or 0.25"),
  ]);
});

test("--drop-last leaves out what does not fill a batch", async () => {
  const options = ["--epochs", "2", "--batch", "48"];
  expect(await foveaJson(train("dropped", ...options, "--drop-last"))).toMatchObject({ steps: 12 });
  expect(await foveaJson(train("kept", ...options))).toMatchObject({ steps: 14 });
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
