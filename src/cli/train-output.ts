/** What `fovea train` prints. */
import type { Model } from "../model/model.js";
import type { Dataset } from "../native.js";
import { lineProgress, type Progress, silentProgress, terminalProgress } from "../report/progress.js";
import { summarize } from "../report/summary.js";
import type { FitResult } from "../training/fit-options.js";
import { describeOptimizer } from "../training/optimizers.js";
import { recipes } from "../training/recipes.js";
import type { RunConfig } from "../training/run-config.js";
import type { RunDirectory } from "../training/run-directory.js";
import type { RunLength } from "../training/schedules.js";
import { architectures } from "../zoo/index.js";
import { count, peakMemoryBytes, percent, printResult, whole } from "./output.js";

/** Images to train with, and to watch with. */
export interface Data {
  readonly train: Dataset;
  readonly validation: Dataset | undefined;
}

/** What `--help` says of recipes. */
export function recipesHelp(): string {
  const width = Math.max(...Object.keys(recipes).map((name) => name.length));
  const lines = Object.entries(recipes).flatMap(([name, { description, ...recipe }]) => {
    const length = recipe.steps === undefined ? count(recipe.epochs ?? 10, "epoch") : count(recipe.steps, "step");
    const words = [
      `${length} of batch ${recipe.batchSize}`,
      describeOptimizer(recipe.optimizer),
      ...particulars(recipe),
    ];
    return [`  ${name.padEnd(width)}  ${description}`, `  ${"".padEnd(width)}  ${words.join(", ")}`];
  });
  const known = [...new Set(architectures.map(({ recipe }) => describeOptimizer(recipe)))].map((words) => {
    const names = architectures.filter(({ recipe }) => describeOptimizer(recipe) === words).map(({ name }) => name);
    return `  ${names.join(", ")}\n    ${words}`;
  });
  return [
    "\nRecipes; what is typed beside one counts:",
    ...lines,
    "\nWithout a recipe, and where nothing is said about the optimizer or its learning rate, a zoo model has its own:",
    ...known,
  ].join("\n");
}

/** What else is not as by default. */
function particulars(config: Partial<RunConfig>): readonly string[] {
  const { labelSmoothing, clipNorm, accumulate = 1, ema, frozen = [], augment = [] } = config;
  return [
    ...(clipNorm ? [`gradients clipped to ${clipNorm}`] : []),
    ...(accumulate > 1 ? [`batches in ${accumulate} parts`] : []),
    ...(ema ? [`averages of ${ema}`] : []),
    ...(frozen.length > 0 ? [`frozen ${frozen.join(", ")}`] : []),
    ...(labelSmoothing ? [`label smoothing ${labelSmoothing}`] : []),
    ...(augment.length > 0 ? [`augmentation ${augment.map(({ kind }) => kind).join(", ")}`] : []),
  ];
}

export function chooseProgress(json: boolean): Progress {
  const write = (line: string): void => void process.stdout.write(`${line}\n`);
  if (process.stderr.isTTY && (json || process.stdout.isTTY)) {
    return terminalProgress(process.stderr, json ? () => {} : write);
  }
  return json ? silentProgress : lineProgress(write);
}

export function heading(config: RunConfig, { session }: Model, data: Data, length: RunLength, step: number): string {
  const { steps, stepsPerEpoch } = length;
  const { parameters } = summarize(config.graph);
  const validation = data.validation ? `, ${whole(data.validation.length)} to validate` : "";
  const epochs = steps / stepsPerEpoch;
  const size = Number.isInteger(epochs)
    ? `${count(epochs, "epoch")} of ${whole(stepsPerEpoch)} steps`
    : count(steps, "step");
  const from = step === 0 ? "" : ` from step ${whole(step)}`;
  return [
    `${config.model} (${whole(parameters)} parameters) on ${config.data}: ${count(data.train.length, "image")}${validation}`,
    `${size}${from}, batch ${config.batchSize}, ${count(session.threads, "thread")}, ${session.isa}`,
    [describeOptimizer(config.optimizer), ...particulars(config)].join(", "),
  ].join("\n");
}

export function report(run: RunDirectory, result: FitResult, json: boolean): void {
  const { steps, epochs, trainLoss, validationAccuracy, seconds, imagesPerSecond, inputStall, best, stopped } = result;
  printResult(
    json,
    {
      run: run.path,
      steps,
      epochs,
      trainLoss,
      validationAccuracy,
      seconds,
      imagesPerSecond,
      inputStall,
      peakMemoryBytes: peakMemoryBytes(),
    },
    () => {
      const accuracy = validationAccuracy === null ? [] : [`validation accuracy ${percent(validationAccuracy)}`];
      const loss = trainLoss === null ? [] : [`training loss ${trainLoss.toFixed(4)}`];
      const pace = [
        `${seconds.toFixed(1)} s`,
        `${whole(imagesPerSecond)} images/s`,
        `${percent(inputStall, 1)} of the steps' time waiting for images${inputStall > 0.03 ? ", which is the limit" : ""}`,
      ];
      const facts = [...accuracy, ...loss, ...(imagesPerSecond > 0 ? pace : [])].join(", ");
      const early = stopped === "patience" ? `, ended early: epoch ${best?.epoch} was the best` : "";
      return stopped !== "aborted"
        ? `${run.path}: ${facts || "nothing to do"} (${count(steps, "step")})${early}`
        : `${run.path}: stopped and saved at step ${whole(steps)}; go on with \`fovea train --resume ${run.path}\``;
    },
  );
}
