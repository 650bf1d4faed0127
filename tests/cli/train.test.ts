import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import { architecture } from "../../src/zoo/index.js";
import { fovea, foveaJson, main, start, startProgram } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist } from "../support/files.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const data = `mnist:${smallMnist(path("mnist"), { train: 1000, test: 200 })}`;
const train = (run: string, ...options: string[]): string[] => {
  return ["train", "lenet5", "--data", data, "--out", path(run), ...options];
};

function weights(run: string): Buffer {
  return readFileSync(join(path(run), "model.safetensors"));
}

/** Steps in a run's checkpoint. */
function savedSteps(run: string): number {
  const bytes = readFileSync(join(path(run), "checkpoint.safetensors"));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + Number(bytes.readBigUInt64LE(0))));
  return Number(header.__metadata__.step);
}

function metrics(run: string): Record<string, number>[] {
  const text = readFileSync(join(path(run), "metrics.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

describe("a run directory", () => {
  test("holds the files of the contract, and the printed object its keys", async () => {
    const result = await foveaJson(train("files", "--epochs", "2", "--lr", "0.05"));
    expect(Object.keys(result)).toEqual([
      ...[
        "run",
        "steps",
        "epochs",
        "trainLoss",
        "validationAccuracy",
        "seconds",
        "imagesPerSecond",
        "inputStall",
        "peakMemoryBytes",
      ],
    ]);
    expect(result).toMatchObject({ run: path("files"), steps: 32, epochs: 2 });
    expect(result["validationAccuracy"]).toBeGreaterThan(0.5);
    expect(readdirSync(path("files")).sort()).toEqual([
      ...["checkpoint.safetensors", "config.json", "metrics.jsonl", "model.safetensors", "report.html"],
    ]);
  });

  test("is made for images of another size than a zoo model's own when --input says so", async () => {
    const small = ["train", "lenet5-1998", "--data", data, "--out", path("framed"), "--steps", "2"];
    const refused = await fovea(small);
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toContain('Expected images of [32, 32, 1] for "lenet5-1998" but the data has [28, 28, 1].');
    expect(await foveaJson([...small, "--input", "28x28x1"])).toMatchObject({ steps: 2 });
    const resumed = await fovea(["train", "--resume", path("framed"), "--input", "28x28x1"]);
    expect([resumed.exitCode, resumed.stderr]).toEqual([2, expect.stringContaining("--input")]);
  });

  test("has a line of metrics for every step and every epoch", () => {
    const lines = metrics("files");
    const steps = lines.filter((line) => "step" in line);
    const epochs = lines.filter((line) => "trainLoss" in line);
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 32 }, (_, index) => index + 1));
    expect(steps.map(({ epoch }) => epoch)).toEqual(Array.from({ length: 32 }, (_, index) => (index < 16 ? 1 : 2)));
    for (const line of steps) {
      expect(Object.keys(line)).toEqual(["step", "epoch", "loss", "learningRate", "imagesPerSecond"]);
      expect(line["learningRate"]).toBe(0.05);
    }
    expect(epochs.map(({ epoch }) => epoch)).toEqual([1, 2]);
    for (const line of epochs) {
      expect(Object.keys(line)).toEqual([
        ...["epoch", "trainLoss", "trainAccuracy", "validationLoss", "validationAccuracy", "validationTop5"],
        ...["best", "seconds"],
      ]);
    }
    expect(epochs[1]?.["trainLoss"]).toBeLessThan(epochs[0]?.["trainLoss"] ?? 0);
  });

  test("has a report with its curves and nothing from elsewhere", () => {
    const page = readFileSync(join(path("files"), "report.html"), "utf8");
    expect(page.match(/<svg /g)).toHaveLength(3);
    expect(page).toMatch(/<polyline class="train" points="[\d., ]+"/);
    expect(page).not.toMatch(/<script|https?:|src=|@import|url\(/);
  });

  test("serves as a model that is evaluated with its own weights", async () => {
    const last = metrics("files").at(-1);
    const { accuracy, loss, images, confusion } = await foveaJson(["eval", path("files"), "--data", data]);
    expect(images).toBe(200);
    expect(accuracy).toBe(last?.["validationAccuracy"]);
    expect(loss).toBeCloseTo(last?.["validationLoss"] ?? Number.NaN, 5);
    expect([confusion].flat(2).reduce((sum: number, count) => sum + Number(count), 0)).toBe(200);
    const mirrored = await foveaJson(["eval", path("files"), "--data", data, "--mirrored"]);
    expect(mirrored["loss"]).not.toBeCloseTo(Number(loss), 5);
  });
});

describe("what turns gradients into weights is", () => {
  const optimizer = (run: string): unknown =>
    JSON.parse(readFileSync(join(path(run), "config.json"), "utf8")).optimizer;
  const plain = { kind: "sgd", momentum: 0.9, nesterov: false, weightDecay: 0, noDecay: null, groups: [] };

  test("the architecture's recipe where nothing is typed", async () => {
    await foveaJson(train("recipe", "--steps", "1"));
    expect(optimizer("recipe")).toEqual(architecture("lenet5").recipe);
  });

  test("plain momentum at a constant rate as soon as anything is typed", async () => {
    await foveaJson(train("rate", "--steps", "1", "--lr", "0.03"));
    expect(optimizer("rate")).toEqual({ ...plain, learningRate: { kind: "constant", rate: 0.03, warmup: 0 } });
    await foveaJson(train("schedule", "--steps", "1", "--schedule", "constant"));
    expect(optimizer("schedule")).toEqual({ ...plain, learningRate: { kind: "constant", rate: 0.01, warmup: 0 } });
  });

  test("what is typed, and anew what is typed when the run goes on", async () => {
    const rate = ["--lr", "0.1", "--schedule", "cosine", "--warmup", "3"];
    await foveaJson(
      train("typed", "--steps", "2", ...rate, "--momentum", "0.5", "--nesterov", "--weight-decay", "0.001"),
    );
    const learningRate = { kind: "cosine", rate: 0.1, final: 0, warmup: 3 };
    const typed = { ...plain, momentum: 0.5, nesterov: true, weightDecay: 0.001, learningRate };
    expect(optimizer("typed")).toEqual(typed);
    await foveaJson(["train", "--resume", path("typed"), "--steps", "4", "--lr", "0.2"]);
    expect(optimizer("typed")).toEqual({ ...typed, learningRate: { ...learningRate, rate: 0.2 } });
    const rates = metrics("typed").flatMap(({ learningRate }) => learningRate ?? []);
    expect(rates).toEqual([0.1 / 3, 0.2 / 3, 0.2, 0.2].map((rate) => expect.closeTo(rate, 10)));
  });
});

describe("the same weights, byte for byte, come from", () => {
  test("1 thread and 2 threads", async () => {
    await foveaJson(train("one-thread", "--epochs", "3", "--threads", "1"));
    await foveaJson(train("two-threads", "--epochs", "3", "--threads", "2"));
    expect(weights("two-threads").equals(weights("one-thread"))).toBe(true);
  });

  test("10 epochs, and 5 epochs and 5 more", async () => {
    await foveaJson(train("ten", "--epochs", "10"));
    await foveaJson(train("five", "--epochs", "5"));
    expect(weights("five").equals(weights("ten"))).toBe(false);
    const result = await foveaJson(["train", "--resume", path("five"), "--epochs", "10"]);
    expect(result).toMatchObject({ steps: 160, epochs: 10 });
    expect(weights("five").equals(weights("ten"))).toBe(true);
    const losses = (run: string) => metrics(run).map(({ loss, trainLoss }) => loss ?? trainLoss);
    expect(losses("five")).toEqual(losses("ten"));
  });

  test("a run that was stopped inside an epoch and went on", async () => {
    await foveaJson(train("whole", "--steps", "40"));
    await foveaJson(train("parts", "--steps", "7"));
    await foveaJson(["train", "--resume", path("parts"), "--steps", "23"]);
    await foveaJson(["train", "--resume", path("parts"), "--steps", "40"]);
    expect(weights("parts").equals(weights("whole"))).toBe(true);
    const epochs = (run: string) => metrics(run).filter((line) => "trainLoss" in line);
    expect(epochs("parts").map(({ trainLoss }) => trainLoss)).toEqual(
      epochs("whole").map(({ trainLoss }) => trainLoss),
    );
  });

  test("no run of another seed or another order", async () => {
    await foveaJson(train("seed-1", "--epochs", "3", "--seed", "1"));
    await foveaJson(train("in-order", "--epochs", "3", "--no-shuffle"));
    expect(weights("seed-1").equals(weights("one-thread"))).toBe(false);
    expect(weights("in-order").equals(weights("one-thread"))).toBe(false);
  });
});

test("a finished run that is resumed has nothing to do and says how it ended", async () => {
  const before = weights("ten");
  const { validationAccuracy } = metrics("ten").at(-1) ?? {};
  const result = await foveaJson(["train", "--resume", path("ten")]);
  expect(result).toMatchObject({ steps: 160, epochs: 10, validationAccuracy, imagesPerSecond: 0 });
  expect(weights("ten").equals(before)).toBe(true);
});

test("without a terminal there is a line an epoch, and no escape sequence", async () => {
  const { stdout, stderr, exitCode } = await fovea(train("lines", "--epochs", "2"));
  expect(exitCode).toBe(0);
  expect(stderr).toBe("");
  const lines = stdout.trimEnd().split("\n");
  expect(lines).toHaveLength(6);
  expect(lines[3]).toMatch(/^epoch 1\/2 {2}loss \d\.\d{4} {2}validation \d+\.\d\d % \(loss \d\.\d{4}\) {2}\d+\.\d s$/);
  expect(stdout).not.toContain("\u001b");
});

describe("a run that is interrupted", () => {
  const endless = ["--epochs", "100000", "--json"];

  async function untilSteps(run: string, count: number): Promise<void> {
    const file = join(path(run), "metrics.jsonl");
    while (!existsSync(file) || readFileSync(file, "utf8").split("\n").length <= count) await delay(20);
  }

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("by %s saves a checkpoint, says where it stopped, and goes on from there", async (signal, exitCode) => {
    const { child, outcome } = start(train(signal, ...endless));
    await untilSteps(signal, 20);
    child.kill(signal);
    const stopped = await outcome;
    expect(stopped.exitCode).toBe(exitCode);
    const { steps } = JSON.parse(stopped.stdout);
    expect(metrics(signal).filter((line) => "step" in line)).toHaveLength(steps);
    const result = await foveaJson(["train", "--resume", path(signal), "--steps", String(steps + 1)]);
    expect(result).toMatchObject({ steps: steps + 1 });
  });

  test("by a second Ctrl-C ends at once, in the middle of a long step", async () => {
    const library = pathToFileURL(join(import.meta.dirname, "../../dist/index.js")).href;
    const wide = `import { input, model } from "${library}";
      const same = { padding: "same" };
      export default model(input(28, 28, 1), (x) =>
        x.conv(256, 5, same).conv(256, 5, same).conv(256, 5, same).flatten().dense(10));`;
    writeFileSync(path("wide.mjs"), wide);
    const { child, outcome } = start(["train", path("wide.mjs"), "--data", data, "--out", path("twice")]);
    while (!existsSync(join(path("twice"), "report.html"))) await delay(20);
    await delay(500);
    const noted = new Promise((resolve) => child.stderr?.once("data", resolve));
    child.kill("SIGINT");
    await noted;
    const began = performance.now();
    child.kill("SIGINT");
    await outcome;
    expect(child.signalCode).toBe("SIGINT");
    expect(performance.now() - began).toBeLessThan(1000);
    expect(readFileSync(join(path("twice"), "metrics.jsonl"), "utf8")).toBe("");
  });

  test("by kill -9, again and again while it saves, ends with the weights of one that was not", async () => {
    await foveaJson(train("killed", "--steps", "1"));
    for (const patience of [0, 3, 7, 11, 17, 23]) {
      const begun = metrics("killed").length;
      const resume = ["train", "--resume", path("killed"), "--save-every", "1"];
      const { child, outcome } = start([...resume, "--epochs", "100000", "--json"]);
      await untilSteps("killed", begun + 3);
      await delay(patience);
      const recorded = metrics("killed").filter((line) => "step" in line).length;
      child.kill("SIGKILL");
      await outcome;
      // Every step is saved: what was recorded by now is lost but for the one that was being saved.
      expect(savedSteps("killed")).toBeGreaterThanOrEqual(recorded - 1);
      const { images } = await foveaJson(["eval", path("killed"), "--data", data]);
      expect(images).toBe(200);
    }
    const steps = String(metrics("killed").length + 5);
    await foveaJson(["train", "--resume", path("killed"), "--steps", steps]);
    await foveaJson(train("unharmed", "--steps", steps));
    expect(weights("killed").equals(weights("unharmed"))).toBe(true);
    expect(readdirSync(path("killed")).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("by a full disk is told in one line, and the run goes on from its last save once there is room", async () => {
    await foveaJson(train("full", "--steps", "3"));
    const before = readFileSync(join(path("full"), "checkpoint.safetensors"));
    const resume = ["train", "--resume", path("full"), "--steps", "6"];
    for (const [kilobytes, file] of [
      [200, "checkpoint.safetensors"],
      [1, "config.json"],
    ] as const) {
      // No file may grow beyond that, as if the disk had no more; ignoring the signal leaves it to the write to fail.
      const limited = `trap '' XFSZ; ulimit -f ${kilobytes}; exec "$0" "$@"`;
      const { outcome } = startProgram("bash", ["-c", limited, process.execPath, main, ...resume]);
      const { exitCode, stderr } = await outcome;
      expect([exitCode, stderr.trim().split("\n").length]).toEqual([1, 1]);
      expect(stderr).toContain(join(path("full"), file));
      expect(readFileSync(join(path("full"), "checkpoint.safetensors")).equals(before)).toBe(true);
      expect(readdirSync(path("full")).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    }
    await foveaJson(resume);
    await foveaJson(train("roomy", "--steps", "6"));
    expect(weights("full").equals(weights("roomy"))).toBe(true);
  });
});
