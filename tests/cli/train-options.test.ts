import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fovea, foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist } from "../support/files.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const data = `mnist:${smallMnist(path("mnist"), { train: 640, test: 200 })}`;
const train = (run: string, ...options: string[]): string[] => {
  return ["train", "lenet5", "--data", data, "--out", path(run), ...options];
};
const weights = (run: string): Buffer => readFileSync(join(path(run), "model.safetensors"));
const schedule = (run: string): unknown =>
  JSON.parse(readFileSync(join(path(run), "config.json"), "utf8")).optimizer.learningRate;

describe("--schedule", () => {
  const rate = { rate: 0.01, warmup: 0 };
  test.each<[string, object]>([
    ["cosine:0.001", { kind: "cosine", ...rate, final: 0.001 }],
    [
      "one-cycle:0.2",
      {
        ...{ kind: "one-cycle", ...rate, rise: 0.2, initialDivisor: 25, finalDivisor: 1e4, anneal: "cosine" },
        momentum: null,
      },
    ],
    ["one-cycle:0.3:0.85-0.95", expect.objectContaining({ rise: 0.3, momentum: [0.85, 0.95] })],
    ["step:2.5:0.5", { kind: "step", ...rate, every: 2.5, unit: "epochs", factor: 0.5 }],
    [
      "multi-step:32000s,48000s",
      { kind: "multi-step", ...rate, milestones: [32000, 48000], unit: "steps", factor: 0.1 },
    ],
    ["multi-step:3,4:0.2", { kind: "multi-step", ...rate, milestones: [3, 4], unit: "epochs", factor: 0.2 }],
    ["polynomial:2", { kind: "polynomial", ...rate, power: 2, final: 0 }],
    [
      "plateau:3:0.5",
      {
        ...{ kind: "plateau", ...rate, patience: 3, factor: 0.5 },
        ...{ threshold: 1e-4, cooldown: 0, minimum: 0, monitor: null },
      },
    ],
  ])("%s is written down for the run to go on with", async (text, expected) => {
    await foveaJson(train(text, "--steps", "1", "--schedule", text));
    expect(schedule(text)).toEqual(expected);
  });

  test.each<[string, string[], RegExp]>([
    ["a kind that is none", ["--schedule", "cosinus"], /Expected constant, cosine\[:FINAL\], .* received "cosinus"/],
    ["too many numbers", ["--schedule", "cosine:1:2"], /received "cosine:1:2"/],
    ["two lengths of a step", ["--schedule", "step:1,2"], /one number of epochs but received "1,2"/],
    ["milestones of two kinds", ["--schedule", "multi-step:3,4000s"], /positive number but received "4000s"/],
    ["falling milestones", ["--schedule", "multi-step:4,3"], /rising numbers of epochs for "milestones"/],
    ["one momentum", ["--schedule", "one-cycle:0.3:0.9"], /two momenta, as in 0.85-0.95, but received "0.9"/],
    ["a warm-up of one cycle", ["--schedule", "one-cycle", "--warmup", "5"], /no warm-up with a one-cycle/],
  ])("%s is refused", async (_, options, message) => {
    const { exitCode, stderr } = await fovea(train("refused", ...options));
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(message);
    expect(existsSync(path("refused"))).toBe(false);
  });
});

test("--csv, --save-best and --keep write what they say", async () => {
  await foveaJson(train("more", "--epochs", "3", "--csv", "--save-best", "--keep", "2", "--save-every", "4"));
  expect(readdirSync(path("more")).sort()).toEqual([
    ...["best.safetensors", "checkpoint.safetensors", "checkpoints", "config.json", "metrics.csv"],
    ...["metrics.jsonl", "model.safetensors", "report.html"],
  ]);
  expect(readdirSync(join(path("more"), "checkpoints")).sort()).toEqual(
    [28, 30].map((s) => `checkpoint-${s}.safetensors`),
  );
  expect(
    readFileSync(join(path("more"), "metrics.csv"), "utf8")
      .trimEnd()
      .split("\n"),
  ).toHaveLength(4);
  const best = await foveaJson(["eval", "lenet5", "--data", data, "--weights", join(path("more"), "best.safetensors")]);
  const lines = readFileSync(join(path("more"), "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n");
  const accuracies = lines.flatMap((line) => JSON.parse(line).validationAccuracy ?? []);
  expect(best["accuracy"]).toBe(Math.max(...accuracies));
});

test("a run with a plateau and patience, stopped in the middle and gone on with, is the one that was not", async () => {
  const options = ["--lr", "0.1", "--schedule", "plateau:0:0.3", "--patience", "4", "--monitor", "validationLoss"];
  const whole = await foveaJson(train("whole", "--epochs", "60", ...options, "--threads", "1"));
  expect(whole["epochs"]).toBeLessThan(60);
  for (const steps of ["13", "37", "41"]) {
    const begin = existsSync(path("parts")) ? ["train", "--resume", path("parts")] : train("parts", ...options);
    await foveaJson([...begin, "--steps", steps]);
  }
  const parts = await foveaJson(["train", "--resume", path("parts"), "--epochs", "60", "--threads", "2"]);
  expect(parts["steps"]).toBe(whole["steps"]);
  expect(weights("parts").equals(weights("whole"))).toBe(true);
  const { stdout } = await fovea(["train", "--resume", path("parts")]);
  expect(stdout).toMatch(/ended early: epoch \d+ was the best/);
});

describe("--recipe", () => {
  const config = (run: string): Record<string, unknown> =>
    JSON.parse(readFileSync(join(path(run), "config.json"), "utf8"));

  test("brings its options, and what is typed beside it counts", async () => {
    await foveaJson(
      train("recipe", "--recipe", "lenet5-fashion", "--epochs", "1", "--lr", "0.02", "--augment", "crop:2"),
    );
    expect(config("recipe")).toMatchObject({
      ...{ recipe: "lenet5-fashion", epochs: 1, batchSize: 64, labelSmoothing: 0.05 },
      optimizer: { kind: "sgd", nesterov: true, weightDecay: 5e-4, learningRate: { kind: "one-cycle", rate: 0.02 } },
      augment: [{ kind: "crop", padding: 2, fill: "zeros" }],
      classNames: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    });
  });

  test("is refused where there is none of that name", async () => {
    const { exitCode, stderr } = await fovea(train("refused", "--recipe", "lenet6"));
    expect([exitCode, stderr]).toEqual([2, expect.stringMatching(/--recipe.*lenet5-mnist/)]);
  });
});

test("an augmented run, stopped in the middle of an epoch and gone on with, is the one that was not", async () => {
  const options = ["--batch", "48", "--augment", "crop:2,flip,cutout:5,normalize"];
  await foveaJson(train("augmented", "--steps", "31", ...options, "--threads", "1"));
  await foveaJson(train("augmented-parts", "--steps", "9", ...options, "--threads", "2"));
  await foveaJson(["train", "--resume", path("augmented-parts"), "--steps", "20", "--threads", "1"]);
  await foveaJson(["train", "--resume", path("augmented-parts"), "--steps", "31", "--threads", "2"]);
  expect(weights("augmented-parts").equals(weights("augmented"))).toBe(true);
  await foveaJson(train("plain", "--steps", "31", "--batch", "48", "--no-augment"));
  expect(weights("plain").equals(weights("augmented"))).toBe(false);
  const { exitCode, stderr } = await fovea(["train", "--resume", path("augmented"), "--no-augment"]);
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining("Expected --augment to be left out with --resume")]);
});
