/** What training tells, written to files as it goes on. */
import { readFile } from "node:fs/promises";
import { hasCode } from "../errors.js";
import { append, writeWhole } from "./files.js";
import type { EpochMetrics, FitCallbacks, StepMetrics } from "./fit-options.js";
import { hasNumbers, parseJson } from "./json.js";
import type { RunLength } from "./schedules.js";

/** A line of `metrics.jsonl`. */
export type MetricsLine = StepMetrics | EpochMetrics;

/**
 * A line of JSON for every step and every epoch: {@link StepMetrics} and {@link EpochMetrics}. A training that goes on
 * from a checkpoint first drops the lines beyond it.
 *
 * @param path the file; one that is there is replaced by a new training
 * @example
 * ```ts
 * import { jsonLinesLog, type FitOptions } from "fovea";
 *
 * const options: FitOptions = { epochs: 5, callbacks: [jsonLinesLog("metrics.jsonl")] };
 * console.log(options.epochs); // 5
 * ```
 */
export function jsonLinesLog(path: string): FitCallbacks {
  const add = async (lines: readonly MetricsLine[]): Promise<void> => append(path, lines.map(toLine).join(""));
  return {
    async onStart(length, { step }) {
      await writeWhole(path, (await readMetrics(path)).filter(isWithin(step, length)).map(toLine).join(""));
    },
    onSteps: add,
    onEpoch: (epoch) => add([epoch]),
  };
}

/** The recorded metrics; a last line that was cut off where the run was killed is left out. */
export async function readMetrics(path: string): Promise<MetricsLine[]> {
  try {
    return (await readFile(path, "utf8")).split("\n").map(parseJson).filter(isMetricsLine);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}

/** Whether a line tells of the first so many steps. An epoch belongs to its last step. */
function isWithin(step: number, { stepsPerEpoch }: RunLength): (line: MetricsLine) => boolean {
  return (line) => ("step" in line ? line.step : line.epoch * stepsPerEpoch) <= step;
}

function toLine(line: MetricsLine): string {
  return `${JSON.stringify(line)}\n`;
}

function isMetricsLine(line: unknown): line is MetricsLine {
  return hasNumbers(line, ["epoch"]) && (hasNumbers(line, ["step", "loss"]) || hasNumbers(line, ["trainLoss"]));
}

const columns = [
  ...["epoch", "step", "learningRate", "trainLoss", "trainAccuracy"],
  ...["validationLoss", "validationAccuracy", "validationTop5", "best", "seconds"],
] as const;

/**
 * A table with a row for every epoch, for spreadsheets: {@link EpochMetrics}, the last step and its learning rate. What is
 * not there is left empty. A training that goes on from a checkpoint first drops the rows beyond it.
 *
 * @param path the file; one that is there is replaced by a new training
 */
export function csvLog(path: string): FitCallbacks {
  let last: StepMetrics | undefined;
  return {
    async onStart({ stepsPerEpoch }, { step }) {
      const rows = (await readLines(path)).slice(1).filter((row) => Number.parseInt(row, 10) * stepsPerEpoch <= step);
      await writeWhole(path, [columns.join(","), ...rows].map((row) => `${row}\n`).join(""));
    },
    onSteps(steps) {
      last = steps.at(-1) ?? last;
    },
    async onEpoch(epoch) {
      const values: Readonly<Record<string, unknown>> = { ...last, ...epoch };
      await append(path, `${columns.map((column) => values[column] ?? "").join(",")}\n`);
    },
  };
}

async function readLines(path: string): Promise<string[]> {
  try {
    return (await readFile(path, "utf8")).split("\n").filter((line) => line !== "");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}
