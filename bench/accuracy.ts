/**
 * `npm run bench:accuracy -- --data cifar10`: trains cifar10-vgg.ts on CIFAR-10 with fast and with strict precision, from the
 * same seeds, and prints the accuracies on the test images.
 *
 * Each training is a process of its own, as `fovea train` runs it, and leaves a run directory; one that is there already
 * goes on where it stopped, and is only evaluated if it is done. README.md here says where the images come from.
 */

import { spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { positiveInteger, wholeNumber } from "../src/cli/options.js";
import { printError } from "../src/cli/output.js";
import { plainTable } from "../src/report/table.js";

const program = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
const network = fileURLToPath(new URL("cifar10-vgg.ts", import.meta.url));
const recipe = ["--batch", "100", "--lr", "0.1", "--schedule", "cosine", "--weight-decay", "5e-4"];
const precisions = ["fast", "strict"] as const;

type Precision = (typeof precisions)[number];

interface Options {
  readonly data: string;
  readonly out: string;
  readonly epochs: number;
  readonly seeds: readonly number[];
  readonly precision: readonly Precision[];
  readonly json?: string;
}

interface Run {
  readonly precision: Precision;
  readonly seed: number;
  /** Share of the test images, 0 to 1. */
  readonly accuracy: number;
  readonly loss: number;
}

const { data, out, epochs, seeds, precision, json } = new Command("bench:accuracy")
  .description("Compare the test accuracy of fast and strict precision on CIFAR-10.")
  .addOption(new Option("--data <source>", "CIFAR-10, as fovea train takes it").makeOptionMandatory())
  .addOption(new Option("--out <directory>", "where the runs go, or are").default("runs/accuracy"))
  .addOption(new Option("--epochs <n>", "passes over the training images").argParser(positiveInteger).default(2))
  .addOption(
    new Option("--seeds <list>", "first weights and orders").argParser(wholeNumbers).default([0, 1, 2], "0,1,2"),
  )
  .addOption(new Option("--precision <kinds...>", "what to compare").choices(precisions).default(precisions))
  .addOption(new Option("--json <file>", "write the results there, too"))
  .parse()
  .opts<Options>();

try {
  const runs = seeds.flatMap((seed) => precision.map((kind) => trainAndTest(kind, seed)));
  process.stdout.write(`${format(runs)}\n`);
  if (json !== undefined) {
    const result = { dataset: "cifar10", network: "cifar10-vgg", epochs, options: recipe.join(" "), runs };
    writeFileSync(json, `${JSON.stringify(result, null, 2)}\n`);
  }
} catch (error) {
  printError(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}

function wholeNumbers(text: string): number[] {
  return text.split(",").map(wholeNumber);
}

function trainAndTest(precision: Precision, seed: number): Run {
  const run = join(out, `${precision}-${seed}`);
  const begin = existsSync(run) ? ["--resume", run] : [network, "--out", run, ...recipe];
  const same = ["--seed", `${seed}`, "--precision", precision, "--data", part("train"), "--epochs", `${epochs}`];
  fovea("train", ...begin, ...same, "--json");
  const { accuracy, loss } = fovea("eval", run, "--data", part("test"), "--precision", precision, "--json");
  process.stderr.write(`${run}: ${percent(accuracy)} %\n`);
  return { precision, seed, accuracy, loss };
}

/** Images and labels as the command line names them. */
function part(name: "train" | "test"): string {
  return `${join(data, `${name}-images.npy`)},${join(data, `${name}-labels.npy`)}`;
}

/** What a command of fovea printed. */
function fovea(...words: string[]): Pick<Run, "accuracy" | "loss"> {
  const { status, stdout, error } = spawnSync(process.execPath, ["--import", "tsx", program, ...words], {
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`Expected "fovea ${words[0]}" to succeed but it ended with exit code ${status}.`);
  return JSON.parse(stdout);
}

/** A row for each seed, then means and the distance between the best and the worst. */
function format(runs: readonly Run[]): string {
  const of = (kind: Precision): number[] => runs.filter((run) => run.precision === kind).map((run) => run.accuracy);
  const row = (title: string, cell: (kind: Precision, index: number) => string) => [title, ...precision.map(cell)];
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const spread = (values: readonly number[]): number => Math.max(...values) - Math.min(...values);
  return plainTable(
    [{ title: "seed" }, ...precision.map((kind) => ({ title: `${kind}, %` }))],
    [
      ...seeds.map((seed, index) => row(`${seed}`, (kind) => percent(of(kind)[index] ?? Number.NaN))),
      row("mean", (kind) => percent(mean(of(kind)))),
      row("spread", (kind) => percent(spread(of(kind)))),
    ],
  );
}

function percent(share: number): string {
  return (100 * share).toFixed(2);
}
