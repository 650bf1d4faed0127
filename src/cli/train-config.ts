import { resolve } from "node:path";
import { absoluteDataSource } from "../data/source.js";
import { FoveaError } from "../errors.js";
import { checkedOptimizer, type Optimizer, sgd } from "../training/optimizers.js";
import { type RunConfig, runDefaults } from "../training/run-config.js";
import { type Metric, rebased, type Schedule } from "../training/schedules.js";
import { architectures } from "../zoo/index.js";
import { resolveModel } from "./model-argument.js";
import type { SharedOptions } from "./options.js";
import { UsageError } from "./output.js";
import type { ScheduleShape } from "./schedule-option.js";

/** What was typed after `fovea train`; what was not typed is absent, so that a resumed run keeps its own. */
export interface TrainOptions extends SharedOptions {
  readonly data?: string;
  readonly out?: string;
  readonly resume?: string;
  readonly epochs?: number;
  readonly steps?: number;
  readonly batch?: number;
  readonly optimizer?: "sgd";
  readonly lr?: number;
  readonly momentum?: number;
  readonly nesterov?: boolean;
  readonly weightDecay?: number;
  readonly schedule?: ScheduleShape;
  readonly warmup?: number;
  readonly labelSmoothing?: number;
  readonly shuffle: boolean;
  readonly weights?: string;
  readonly saveEvery?: number;
  readonly monitor?: Metric;
  readonly patience?: number;
  readonly keep?: number;
  readonly saveBest?: boolean;
  readonly csv?: boolean;
  readonly view?: boolean;
  readonly findLr?: boolean;
}

/** A new run: its configuration, where it goes, and the weights that it begins with if not with random ones. */
export interface NewRun {
  readonly config: RunConfig;
  readonly out: string | undefined;
  readonly weights: string | undefined;
}

/** The options of a new run. */
export async function newRun(model: string | undefined, options: TrainOptions): Promise<NewRun> {
  const { data, out, steps } = options;
  if (model === undefined) throw new UsageError("Expected a MODEL to train, or --resume with the run to go on with.");
  if (data === undefined)
    throw new UsageError("Expected --data with the images to train on, for example --data mnist.");
  if (out === undefined && !options.findLr) {
    throw new UsageError("Expected --out with a directory for the run, for example --out runs/1.");
  }
  const { name, definition, weights } = await resolveModel(model);
  const config: RunConfig = {
    model: name,
    data: absoluteDataSource(data, resolve),
    epochs: steps === undefined ? (options.epochs ?? 10) : null,
    steps: steps ?? null,
    batchSize: options.batch ?? 64,
    optimizer: optimizer(options, choosesOptimizer(options) ? sgd() : (recipeOf(name) ?? sgd())),
    labelSmoothing: options.labelSmoothing ?? 0,
    shuffle: options.shuffle,
    seed: options.seed ?? 0,
    precision: options.precision ?? "fast",
    saveEvery: options.saveEvery ?? runDefaults.saveEvery,
    monitor: options.monitor ?? runDefaults.monitor,
    patience: options.patience ?? runDefaults.patience,
    keep: options.keep ?? runDefaults.keep,
    saveBest: options.saveBest ?? runDefaults.saveBest,
    csv: options.csv ?? runDefaults.csv,
    graph: definition,
  };
  return { config, out, weights: options.weights ?? weights };
}

/**
 * The options of a run that goes on: its own, but for what is typed anew.
 *
 * What decides which images a step sees, or what was trained, cannot change on the way.
 */
export function resumedConfig(
  run: string,
  own: RunConfig,
  model: string | undefined,
  options: TrainOptions,
): RunConfig {
  const same = (name: string, typed: unknown, value: unknown): void => {
    if (typed !== undefined && typed !== value) {
      throw new UsageError(
        `Expected ${name} to be left out with --resume, or ${value} as in ${run}, but received ${typed}.`,
      );
    }
  };
  same("MODEL", model, own.model);
  same("--out", options.out && resolve(options.out), resolve(run));
  same("--batch", options.batch, own.batchSize);
  same("--seed", options.seed, own.seed);
  same("--monitor", options.monitor, own.monitor);
  same("--optimizer", options.optimizer, own.optimizer.kind);
  same("--precision", options.precision, own.precision);
  same("--no-shuffle", options.shuffle ? undefined : false, own.shuffle);
  if (options.weights !== undefined) throw new UsageError("Expected --weights to be left out with --resume.");
  if (options.findLr) throw new UsageError("Expected --find-lr to be left out with --resume.");
  const { epochs, steps } = options.epochs === undefined && options.steps === undefined ? own : options;
  return {
    ...own,
    data: options.data === undefined ? own.data : absoluteDataSource(options.data, resolve),
    epochs: epochs ?? null,
    steps: steps ?? null,
    optimizer: optimizer(options, own.optimizer),
    labelSmoothing: options.labelSmoothing ?? own.labelSmoothing,
    saveEvery: options.saveEvery ?? own.saveEvery,
    patience: options.patience ?? own.patience,
    keep: options.keep ?? own.keep,
    saveBest: options.saveBest ?? own.saveBest,
    csv: options.csv ?? own.csv,
  };
}

/** Whether anything was typed that a recipe decides: then the plain defaults fill the rest. */
function choosesOptimizer({ optimizer, lr, momentum, nesterov, weightDecay, schedule, warmup }: TrainOptions): boolean {
  return [optimizer, lr, momentum, nesterov, weightDecay, schedule, warmup].some((option) => option !== undefined);
}

/** What is known to train a zoo model well. */
function recipeOf(model: string): Optimizer | undefined {
  return architectures.find(({ name }) => name === model)?.recipe;
}

function optimizer(options: TrainOptions, own: Optimizer): Optimizer {
  const { momentum, nesterov, weightDecay = own.weightDecay } = options;
  if ((momentum !== undefined && !("momentum" in own)) || (nesterov && !("nesterov" in own))) {
    const name = momentum === undefined ? "--nesterov" : "--momentum";
    throw new UsageError(`Expected ${name} to be left out with ${own.kind}, which has none.`);
  }
  try {
    return checkedOptimizer({
      ...own,
      weightDecay,
      ...(momentum !== undefined && { momentum }),
      ...(nesterov !== undefined && { nesterov }),
      learningRate: schedule(options, own.learningRate),
    });
  } catch (error) {
    throw error instanceof FoveaError ? new UsageError(error.message) : error;
  }
}

function schedule({ lr, warmup, schedule }: TrainOptions, own: Schedule): Schedule {
  if (own.kind === "function") {
    throw new UsageError("Expected a schedule that a file can hold but received a function of the step.");
  }
  const rate = lr ?? own.rate;
  const rising = warmup ?? own.warmup;
  return schedule === undefined ? rebased(own, rate, rising) : schedule(rate, rising);
}
