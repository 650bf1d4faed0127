import type { Model } from "../model/model.js";
import type { Dataset } from "../native.js";
import { plainTable } from "../report/table.js";
import { findLearningRate, type LearningRateSearch } from "../training/find-learning-rate.js";
import { fitOptions, type RunConfig } from "../training/run-config.js";
import { Interrupt } from "./interrupt.js";
import { printResult } from "./output.js";

/** Rows that people read; `--json` has every point. */
const rows = 20;

/** What `train --find-lr` does instead of training. */
export async function printLearningRates(
  model: Model,
  train: Dataset,
  config: RunConfig,
  json?: boolean,
): Promise<void> {
  const interrupt = new Interrupt(() => {}, "stopping the search");
  try {
    const options = { ...fitOptions(config), signal: interrupt.signal };
    printResult(json, await findLearningRate(model, train, options), format);
  } finally {
    interrupt.dispose();
  }
}

function format({ points, suggestion }: LearningRateSearch): string {
  const every = Math.ceil(points.length / rows);
  const shown = points.filter((_, index) => index % every === 0 || index === points.length - 1);
  const lowest = Math.min(...points.map(({ loss }) => loss));
  const highest = Math.max(...points.map(({ loss }) => loss));
  const bar = (loss: number): string => "█".repeat(Math.round((30 * (loss - lowest)) / (highest - lowest || 1)));
  const table = plainTable(
    [{ title: "learning rate" }, { title: "loss" }, { title: "", align: "left" }],
    shown.map(({ learningRate, loss }) => [learningRate.toExponential(1), loss.toFixed(4), bar(loss)]),
  );
  return `${table}\n\nlowest loss at ten times ${suggestion}: try --lr ${suggestion}`;
}
