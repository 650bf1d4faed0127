import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { fovea, foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { readSafetensors, smallMnist, writeNpyFile, writeSafetensors } from "../support/files.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const out = path("never-written");
const data = `mnist:${path("mnist")}`;
const train = ["train", "lenet5", "--data", data, "--out", out];
const library = pathToFileURL(join(import.meta.dirname, "../../dist/index.js")).href;

beforeAll(async () => {
  smallMnist(path("mnist"), { train: 200, test: 100 });
  await foveaJson(["train", "lenet5", "--data", data, "--out", path("run"), "--steps", "3"]);
});

/** Runs a command that must fail: one line on standard error, nothing on standard output, and no run begun. */
async function failure(args: readonly string[]): Promise<{ exitCode: number | null; line: string }> {
  const { exitCode, stdout, stderr } = await fovea(args, directory);
  expect(stdout).toBe("");
  expect(stderr).toMatch(/^error: [^\n]+\n$/);
  expect(existsSync(out)).toBe(false);
  return { exitCode, line: stderr.slice("error: ".length, -1) };
}

describe("what was typed wrong ends with exit code 2 and one line that says what is expected", () => {
  test.each<[string, readonly string[], RegExp]>([
    ["an unknown command", ["trian"], /unknown command 'trian'.*train/],
    ["an unknown option", [...train, "--epoch", "3"], /unknown option '--epoch'.*--epochs/],
    ["an unknown model", ["summary", "lenet6"], /zoo model \(lenet5.*received "lenet6"/],
    ["no model", ["summary"], /missing required argument 'model'/],
    ["one argument too many", ["summary", "lenet5", "lenet5"], /too many arguments/],
    ["a batch of 0", [...train, "--batch", "0"], /--batch.*positive whole number.*"0"/],
    ["a batch that is no number", [...train, "--batch", "many"], /--batch.*positive whole number.*"many"/],
    ["half an epoch", [...train, "--epochs", "0.5"], /--epochs.*positive whole number.*"0.5"/],
    ["a learning rate of NaN", [...train, "--lr", "NaN"], /--lr.*positive number.*"NaN"/],
    ["an infinite learning rate", [...train, "--lr", "Infinity"], /--lr.*positive number.*"Infinity"/],
    ["a negative learning rate", [...train, "--lr", "-0.1"], /--lr.*positive number.*"-0.1"/],
    ["a momentum of 1", [...train, "--momentum", "1"], /--momentum.*from 0 to below 1.*"1"/],
    ["Nesterov without momentum", [...train, "--nesterov", "--momentum", "0"], /above 0 with nesterov/],
    ["an unknown optimizer", [...train, "--optimizer", "sdg"], /--optimizer.*sgd/],
    ["an unknown schedule", [...train, "--schedule", "step"], /step:EPOCHS.*received "step"/],
    ["epochs and steps", [...train, "--epochs", "1", "--steps", "1"], /--steps.*cannot be used with.*--epochs/],
    ["unknown data", ["train", "lenet5", "--data", "imagenet", "--out", out], /mnist, .*received "imagenet"/],
    ["no data", ["train", "lenet5", "--out", out], /Expected --data/],
    ["no place for the run", ["train", "lenet5", "--data", data], /Expected --out/],
    ["a mode that is none", ["bench", "lenet5", "--mode", "predict"], /--mode.*train, infer/],
    ["an image size that is none", ["summary", "lenet5", "--input", "28x28"], /28x28x1.*received "28x28"/],
    ["another batch for a run that goes on", ["train", "--resume", "run", "--batch", "32"], /--batch.*64.*received 32/],
    ["fewer steps than are done", ["train", "--resume", "run", "--steps", "2"], /at least the 3 steps.*received 2/],
  ])("%s", async (_, args, message) => {
    const { exitCode, line } = await failure(args);
    expect(line).toMatch(message);
    expect(exitCode).toBe(2);
  });
});

describe("what cannot be read or used ends with exit code 1 and one line that says what was found", () => {
  const zeros = new Uint8Array(8 * 784);
  const images = (name: string): string => writeNpyFile(path(name), zeros, [8, 28, 28, 1]);
  const labels = (name: string, ...values: bigint[]): string =>
    writeNpyFile(path(name), BigInt64Array.from(values), [values.length]);
  const trainOn = (files: readonly string[]): string[] => ["train", "lenet5", "--data", files.join(), "--out", out];

  test("truncated IDX images", async () => {
    smallMnist(path("truncated"), { train: 200, test: 100 });
    truncateSync(join(path("truncated"), "train-images-idx3-ubyte"), 100_000);
    const { exitCode, line } = await failure(["train", "lenet5", "--data", `mnist:${path("truncated")}`, "--out", out]);
    expect(line).toMatch(/train-images-idx3-ubyte.*/);
    expect(line).toMatch(/156,?800|156,?816/);
    expect(exitCode).toBe(1);
  });

  test("a directory without the files of MNIST", async () => {
    const { exitCode, line } = await failure(["eval", "lenet5", "--data", `mnist:${path("nowhere")}`]);
    expect(line).toMatch(/t10k-images-idx3-ubyte.gz in .*nowhere/);
    expect(exitCode).toBe(1);
  });

  test("labels that the network has no output for", async () => {
    const files = [images("images.npy"), labels("labels-12.npy", 0n, 1n, 2n, 3n, 4n, 5n, 6n, 12n)];
    const { exitCode, line } = await failure(trainOn(files));
    expect(line).toMatch(/labels below 10.*"lenet5".*12/);
    expect(exitCode).toBe(1);
  });

  test("negative labels", async () => {
    const files = [images("images.npy"), labels("labels-negative.npy", 0n, 1n, 2n, 3n, 4n, 5n, 6n, -1n)];
    const { exitCode, line } = await failure(trainOn(files));
    expect(line).toMatch(/labels-negative\.npy.*-1/);
    expect(exitCode).toBe(1);
  });

  test("fewer labels than images", async () => {
    const { exitCode, line } = await failure(trainOn([images("images.npy"), labels("labels-3.npy", 0n, 1n, 2n)]));
    expect(line).toMatch(/8.*3/);
    expect(exitCode).toBe(1);
  });

  test("images of another size than the network's", async () => {
    const file = writeNpyFile(path("wide.npy"), new Uint8Array(8 * 32 * 32 * 3), [8, 32, 32, 3]);
    const { exitCode, line } = await failure(trainOn([file, labels("labels-8.npy", 0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n)]));
    expect(line).toMatch(/\[28, 28, 1\].*"lenet5".*\[32, 32, 3\]/);
    expect(exitCode).toBe(1);
  });

  test("an input of the wrong shape", async () => {
    const file = writeNpyFile(path("wide.npy"), new Uint8Array(8 * 32 * 32 * 3), [8, 32, 32, 3]);
    const { exitCode, line } = await failure(["run", "run", "--input", file, "--output", out]);
    expect(line).toMatch(/\[images, 28, 28, 1\].*wide\.npy.*\[8, 32, 32, 3\]/);
    expect(exitCode).toBe(1);
  });

  test("an input of a type that is no pixel", async () => {
    const file = writeNpyFile(path("doubles.npy"), new Float64Array(784), [1, 28, 28, 1]);
    const { exitCode, line } = await failure(["run", "run", "--input", file, "--output", out]);
    expect(line).toMatch(/uint8 or float32.*doubles\.npy.*float64/);
    expect(exitCode).toBe(1);
  });

  test("an NPY file that is none", async () => {
    writeFileSync(path("text.npy"), "not an array");
    const { exitCode, line } = await failure(["run", "run", "--input", path("text.npy"), "--output", out]);
    expect(line).toMatch(/text\.npy/);
    expect(exitCode).toBe(1);
  });

  test("weights with a tensor missing", async () => {
    const { header, data: bytes } = readSafetensors(join(path("run"), "model.safetensors"));
    const { "fc1.weight": _, ...rest } = header;
    const file = writeSafetensors(path("missing.safetensors"), { header: rest, data: bytes });
    const { exitCode, line } = await failure(["eval", "lenet5", "--data", data, "--weights", file]);
    expect(line).toMatch(/fc1\.weight/);
    expect(exitCode).toBe(1);
  });

  test("weights with tensors of other shapes, all of them named", async () => {
    const { header, data: bytes } = readSafetensors(join(path("run"), "model.safetensors"));
    const reshaped = Object.fromEntries(
      Object.entries(header).map(([name, tensor]) => {
        const count = tensor.shape.reduce((product, size) => product * size, 1);
        return [name, name.startsWith("conv") ? { ...tensor, shape: [count, 1, 1] } : tensor];
      }),
    );
    const file = writeSafetensors(path("misshapen.safetensors"), { header: reshaped, data: bytes });
    const { exitCode, line } = await failure([...train, "--weights", file]);
    expect(line).toMatch(/conv1\.weight" \[150, 1, 1\] instead of \[6, 1, 5, 5\]/);
    expect(line).toMatch(/conv2\.weight/);
    expect(exitCode).toBe(1);
  });

  test("truncated weights", async () => {
    writeFileSync(path("short.safetensors"), readFileSync(join(path("run"), "model.safetensors")).subarray(0, 5000));
    const { exitCode, line } = await failure([
      "eval",
      "lenet5",
      "--data",
      data,
      "--weights",
      path("short.safetensors"),
    ]);
    expect(line).toMatch(/short\.safetensors/);
    expect(exitCode).toBe(1);
  });

  test("a kernel larger than its input", async () => {
    const file = path("large-kernel.js");
    writeFileSync(
      file,
      `import { input, model } from "${library}";
       export default model(input(4, 4, 1), (x) => x.conv(8, 5).flatten().dense(10));`,
    );
    const { exitCode, line } = await failure(["train", file, "--data", data, "--out", out]);
    expect(line).toMatch(/a kernel within the padded input of 4x4 for "conv1".*5x5/);
    expect(exitCode).toBe(1);
  });

  test("a network that ends in softmax, for training", async () => {
    const file = path("softmax.js");
    writeFileSync(
      file,
      `import { input, model } from "${library}";
       export default model(input(28, 28, 1), (x) => x.flatten().dense(10).softmax());`,
    );
    const { exitCode, line } = await failure(["train", file, "--data", data, "--out", out]);
    expect(line).toMatch(/softmax/);
    expect(exitCode).toBe(1);
  });

  test("a module without a model", async () => {
    writeFileSync(path("empty.js"), "export const model = 1;");
    const { exitCode, line } = await failure(["summary", path("empty.js")]);
    expect(line).toMatch(/default export of .*empty\.js.*none/);
    expect(exitCode).toBe(1);
  });

  test("a module that fails, with its own words", async () => {
    writeFileSync(path("failing.mjs"), "throw new Error('no such luck.');");
    const { exitCode, line } = await failure(["summary", path("failing.mjs")]);
    expect(line).toMatch(/failing\.mjs but it failed: no such luck\.$/);
    expect(exitCode).toBe(1);
  });

  test("a module that is not there", async () => {
    const { exitCode, line } = await failure(["summary", path("absent.js")]);
    expect(line).toMatch(/absent\.js.*no such file/);
    expect(exitCode).toBe(1);
  });

  test("a run directory with files of something else in it", async () => {
    const { exitCode, line } = await failure(["train", "lenet5", "--data", data, "--out", path("mnist")]);
    expect(line).toMatch(/new or empty directory.*mnist/);
    expect(exitCode).toBe(1);
  });

  test("a run directory that holds a run, which stays as it is", async () => {
    const before = readFileSync(join(path("run"), "model.safetensors"));
    const { exitCode, line } = await failure(["train", "lenet5", "--data", data, "--out", path("run")]);
    expect(line).toMatch(/holds a run.*--resume/);
    expect(exitCode).toBe(1);
    expect(readFileSync(join(path("run"), "model.safetensors")).equals(before)).toBe(true);
  });

  test("a run directory that cannot be made", async () => {
    const under = join(path("run"), "config.json", "run");
    const { exitCode, line } = await failure(["train", "lenet5", "--data", data, "--out", under]);
    expect(line).toMatch(/config\.json.*file is in the way/);
    expect(exitCode).toBe(1);
  });

  test.runIf(existsSync("/proc"))("a run directory where the system takes none", async () => {
    const { exitCode, line } = await failure(["train", "lenet5", "--data", data, "--out", "/proc/fovea/run"]);
    expect(line).toMatch(/^Expected to write the run to \/proc\/fovea\/run but there is no such place\.$/);
    expect(exitCode).toBe(1);
  });

  test("a run to go on with that is none", async () => {
    const { exitCode, line } = await failure(["train", "--resume", path("mnist")]);
    expect(line).toMatch(/Expected the directory of a run but .*mnist has no config\.json\./);
    expect(exitCode).toBe(1);
  });

  test("a damaged checkpoint, which stays for another program to rescue", async () => {
    const run = path("damaged");
    mkdirSync(run);
    for (const name of ["config.json", "metrics.jsonl"])
      writeFileSync(join(run, name), readFileSync(join(path("run"), name)));
    const checkpoint = readFileSync(join(path("run"), "checkpoint.safetensors")).subarray(0, 100_000);
    writeFileSync(join(run, "checkpoint.safetensors"), checkpoint);
    const { exitCode, line } = await failure(["train", "--resume", run, "--epochs", "2"]);
    expect(line).toMatch(/checkpoint\.safetensors/);
    expect(exitCode).toBe(1);
    expect(readFileSync(join(run, "checkpoint.safetensors")).equals(checkpoint)).toBe(true);
  });
});

test("a loss that stops being a number ends training at the step that is named, and the last checkpoint is kept", async () => {
  const run = path("diverged");
  const { exitCode, stderr } = await fovea(
    ["train", "lenet5", "--data", data, "--out", run, "--lr", "1e6", "--epochs", "50", "--save-every", "1"],
    directory,
  );
  expect(exitCode).toBe(1);
  const [, failed, kept] =
    /^error: .*loss at step (\d+) .* checkpoint of step (\d+) in .*diverged is kept\.\n$/.exec(stderr) ?? [];
  expect(Number(kept)).toBeLessThan(Number(failed));
  const lines = readFileSync(join(run, "metrics.jsonl"), "utf8").trimEnd().split("\n");
  expect(lines.flatMap((line) => JSON.parse(line).step ?? []).at(-1)).toBe(Number(failed) - 1);
  const { images } = await foveaJson(["eval", run, "--data", data], directory);
  expect(images).toBe(100);
});

test.skipIf(Reflect.get(process.features, "typescript"))(
  "TypeScript on a Node that does not read it is told so",
  async () => {
    writeFileSync(path("model.ts"), "export default 1;");
    const { exitCode, line } = await failure(["summary", path("model.ts")]);
    expect(line).toMatch(/does not read TypeScript.*22\.18/);
    expect(exitCode).toBe(1);
  },
);
