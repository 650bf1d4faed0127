import { Option } from "commander";
import { type DataSource, dataHelp, parseDataSource, type SourceOptions } from "../data/source.js";
import { FoveaError } from "../errors.js";
import type { Dataset } from "../native.js";
import { count, printNote, UsageError } from "./output.js";

export const dataOption = (): Option =>
  new Option("--data <data>", dataHelp).argParser((text) => {
    parseData(text);
    return text;
  });

export const corruptOption = (): Option =>
  new Option("--corrupt <what>", "what an image file that cannot be read does (default: fail)").choices([
    "fail",
    "skip",
  ]);

/** DATA, understood; a wrong form is a usage error. */
export function parseData(text: string, options: SourceOptions = {}): DataSource {
  try {
    return parseDataSource(text, options);
  } catch (error) {
    throw error instanceof FoveaError ? new UsageError(error.message) : error;
  }
}

/** Names the files that could not be read, the first five of them, and counts the others. */
export function noteSkipped(datasets: readonly (Dataset | undefined)[]): void {
  const reasons = new Map(datasets.flatMap((each) => each?.skipped ?? []).map(({ file, reason }) => [file, reason]));
  if (reasons.size === 0) return;
  const named = [...reasons].slice(0, 5).map(([file, reason]) => `${file} (${reason})`);
  const more = reasons.size > named.length ? [`${reasons.size - named.length} more`] : [];
  printNote(`${count(reasons.size, "file")} left out: ${[...named, ...more].join(", ")}`);
}
