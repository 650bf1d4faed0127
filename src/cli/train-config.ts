import { resolve } from "node:path";
import { InvalidArgumentError } from "commander";
import { absoluteDataSource } from "../data/source.js";
import { FoveaError } from "../errors.js";
import { type Optimizer, sgd } from "../training/optimizers.js";
import type { RunConfig } from "../training/run-config.js";
import { constant, cosine, inverse, type Schedule, step } from "../training/schedules.js";
import { architectures } from "../zoo/index.js";
import { resolveModel } from "./model-argument.js";
import { positiveNumber, type SharedOptions } from "./options.js";
import { UsageError } from "./output.js";

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
}

/** A schedule without its rate. */
type ScheduleShape =
  | { readonly kind: "constant" }
  | { readonly kind: "cosine"; readonly final: number }
  | { readonly kind: "inverse"; readonly decay: number }
  | { readonly kind: "step"; readonly every: number; readonly factor: number };

/** Understands `constant`, `cosine`, `inverse:DECAY` and `step:EPOCHS[:FACTOR]`. */
export function parseScheduleShape(text: string): ScheduleShape {
  const [kind, every, factor = "0.1", ...more] = text.split(":");
  if (text === "constant") return { kind: "constant" };
  if (text === "cosine") return { kind: "cosine", final: 0 };
  if (kind === "inverse" && every !== undefined && text.split(":").length === 2) {
    return { kind, decay: positiveNumber(every) };
  }
  if (kind === "step" && every !== undefined && more.length === 0) {
    return { kind, every: positiveNumber(every), factor: positiveNumber(factor) };
  }
  throw new InvalidArgumentError(
    `Expected constant, cosine, inverse:DECAY or step:EPOCHS[:FACTOR] but received "${text}".`,
  );
}

/** A new run: its configuration, where it goes, and the weights that it begins with if not with random ones. */
export interface NewRun {
  readonly config: RunConfig;
  readonly out: string;
  readonly weights: string | undefined;
}

/** The options of a new run. */
export async function newRun(model: string | undefined, options: TrainOptions): Promise<NewRun> {
  const { data, out, steps } = options;
  if (model === undefined) throw new UsageError("Expected a MODEL to train, or --resume with the run to go on with.");
  if (data === undefined)
    throw new UsageError("Expected --data with the images to train on, for example --data mnist.");
  if (out === undefined) throw new UsageError("Expected --out with a directory for the run, for example --out runs/1.");
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
    saveEvery: options.saveEvery ?? null,
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
  same("--precision", options.precision, own.precision);
  same("--no-shuffle", options.shuffle ? undefined : false, own.shuffle);
  if (options.weights !== undefined) throw new UsageError("Expected --weights to be left out with --resume.");
  const { epochs, steps } = options.epochs === undefined && options.steps === undefined ? own : options;
  return {
    ...own,
    data: options.data === undefined ? own.data : absoluteDataSource(options.data, resolve),
    epochs: epochs ?? null,
    steps: steps ?? null,
    optimizer: optimizer(options, own.optimizer),
    labelSmoothing: options.labelSmoothing ?? own.labelSmoothing,
    saveEvery: options.saveEvery ?? own.saveEvery,
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
  try {
    return sgd({
      learningRate: schedule(options, own.learningRate),
      momentum: options.momentum ?? own.momentum,
      nesterov: options.nesterov ?? own.nesterov,
      weightDecay: options.weightDecay ?? own.weightDecay,
    });
  } catch (error) {
    throw error instanceof FoveaError ? new UsageError(error.message) : error;
  }
}

function schedule({ lr, warmup, schedule }: TrainOptions, own: Schedule): Schedule {
  const shape = schedule ?? own;
  const rate = lr ?? own.rate;
  const common = { warmup: warmup ?? own.warmup };
  switch (shape.kind) {
    case "constant":
      return constant(rate, common);
    case "cosine":
      return cosine(rate, { ...common, final: shape.final });
    case "inverse":
      return inverse(rate, { ...common, decay: shape.decay });
    case "step":
      return step(rate, { ...common, every: shape.every, factor: shape.factor });
  }
}
