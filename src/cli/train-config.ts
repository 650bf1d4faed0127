import { resolve } from "node:path";
import type { Augmentation } from "../data/augmentations.js";
import { absoluteDataSource } from "../data/source.js";
import { FoveaError } from "../errors.js";
import {
  checkedOptimizer,
  defaultOptimizers,
  type Optimizer,
  type ParameterGroup,
  sgd,
} from "../training/optimizers.js";
import { type Recipe, type RecipeName, recipes } from "../training/recipes.js";
import { type RunConfig, runDefaults } from "../training/run-config.js";
import { type Metric, rebased, type Schedule } from "../training/schedules.js";
import { architectures } from "../zoo/index.js";
import { type ModelSizes, resolveModel } from "./model-argument.js";
import type { OptimizerChoice } from "./optimizer-option.js";
import type { SharedOptions } from "./options.js";
import { UsageError } from "./output.js";
import type { ScheduleShape } from "./schedule-option.js";

/** What was typed after `fovea train`; what was not typed is absent, so that a resumed run keeps its own. */
export interface TrainOptions extends SharedOptions, ModelSizes {
  readonly data?: string;
  readonly validation?: number;
  readonly corrupt?: "fail" | "skip";
  readonly out?: string;
  readonly resume?: string;
  readonly epochs?: number;
  readonly steps?: number;
  readonly batch?: number;
  readonly optimizer?: OptimizerChoice;
  readonly lr?: number;
  readonly momentum?: number;
  readonly nesterov?: boolean;
  readonly weightDecay?: number;
  readonly schedule?: ScheduleShape;
  readonly warmup?: number;
  readonly labelSmoothing?: number;
  /** False for `--no-decay-norm`. */
  readonly decayNorm: boolean;
  readonly group?: readonly ParameterGroup[];
  readonly classWeights?: "balanced" | readonly number[];
  readonly clipNorm?: number;
  readonly accumulate?: number;
  readonly ema?: number;
  readonly freeze?: readonly string[];
  readonly recipe?: RecipeName;
  readonly shuffle: boolean;
  readonly dropLast?: boolean;
  readonly augment?: readonly Augmentation[] | false;
  readonly weights?: string;
  readonly except?: readonly string[];
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
  /** Layers that the weights do not replace. */
  readonly except: readonly string[];
}

/** The options of a new run. */
export async function newRun(model: string | undefined, options: TrainOptions): Promise<NewRun> {
  const { data, out, steps, saveEvery, monitor, patience, keep, saveBest, csv } = options;
  const { validation, corrupt, classWeights, clipNorm, accumulate, ema, freeze: frozen, dropLast } = options;
  if (model === undefined) throw new UsageError("Expected a MODEL to train, or --resume with the run to go on with.");
  if (data === undefined)
    throw new UsageError("Expected --data with the images to train on, for example --data mnist.");
  if (out === undefined && !options.findLr) {
    throw new UsageError("Expected --out with a directory for the run, for example --out runs/1.");
  }
  const { name, definition, weights } = await resolveModel(model, options);
  const base: Partial<Recipe> = options.recipe === undefined ? {} : recipes[options.recipe];
  const length = options.epochs === undefined && steps === undefined ? base : options;
  const config: RunConfig = {
    ...runDefaults,
    ...definedOnly({ saveEvery, monitor, patience, keep, saveBest, csv }),
    ...definedOnly({ validation, corrupt, classWeights, clipNorm, accumulate, ema, frozen, dropLast }),
    model: name,
    data: absoluteDataSource(data, resolve),
    recipe: options.recipe ?? null,
    epochs: length.steps === undefined ? (length.epochs ?? 10) : null,
    steps: length.steps ?? null,
    batchSize: options.batch ?? base.batchSize ?? 64,
    optimizer: optimizer(options, base.optimizer ?? defaultOptimizer(name, options)),
    labelSmoothing: options.labelSmoothing ?? base.labelSmoothing ?? 0,
    augment: options.augment === false ? [] : (options.augment ?? base.augment ?? []),
    shuffle: options.shuffle,
    seed: options.seed ?? 0,
    precision: options.precision ?? "fast",
    algorithms: options.algorithm ?? runDefaults.algorithms,
    graph: definition,
  };
  const { except = [] } = options;
  if (except.length > 0 && options.weights === undefined) {
    throw new UsageError("Expected --except beside --weights with the file that has the others.");
  }
  return { config, out, weights: options.weights ?? weights, except };
}

/** Of an object, the keys that have a value. */
function definedOnly<Values extends object>(
  values: Values,
): { [Key in keyof Values]?: Exclude<Values[Key], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as typeof values;
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
  same("--recipe", options.recipe, own.recipe);
  if (options.augment !== undefined && JSON.stringify(options.augment || []) !== JSON.stringify(own.augment)) {
    throw new UsageError(`Expected --augment to be left out with --resume, or what ${run} has.`);
  }
  same("--seed", options.seed, own.seed);
  same("--monitor", options.monitor, own.monitor);
  same("--validation", options.validation, own.validation);
  same("--drop-last", options.dropLast, own.dropLast);
  same("--optimizer", options.optimizer?.kind, own.optimizer.kind);
  same("--accumulate", options.accumulate, own.accumulate);
  same("--ema", options.ema, own.ema);
  same("--freeze", options.freeze?.join(" "), own.frozen.join(" "));
  same("--precision", options.precision, own.precision);
  same("--no-shuffle", options.shuffle ? undefined : false, own.shuffle);
  if (options.weights !== undefined) throw new UsageError("Expected --weights to be left out with --resume.");
  if (options.algorithm !== undefined) throw new UsageError("Expected --algorithm to be left out with --resume.");
  if (options.except !== undefined) throw new UsageError("Expected --except to be left out with --resume.");
  if (options.findLr) throw new UsageError("Expected --find-lr to be left out with --resume.");
  const { epochs, steps } = options.epochs === undefined && options.steps === undefined ? own : options;
  const { corrupt, saveEvery, patience, keep, saveBest, csv, labelSmoothing, classWeights, clipNorm } = options;
  return {
    ...own,
    ...definedOnly({ corrupt, saveEvery, patience, keep, saveBest, csv, labelSmoothing, classWeights, clipNorm }),
    data: options.data === undefined ? own.data : absoluteDataSource(options.data, resolve),
    epochs: epochs ?? null,
    steps: steps ?? null,
    optimizer: optimizer(options, own.optimizer),
  };
}

/**
 * What trains a network of which no recipe is named: plainly, as soon as anything is typed that a recipe decides; else as
 * its architecture has been found to learn well.
 */
function defaultOptimizer(model: string, options: TrainOptions): Optimizer {
  const { optimizer, lr, momentum, nesterov, weightDecay, schedule, warmup } = options;
  const typed = [optimizer, lr, momentum, nesterov, weightDecay, schedule, warmup].some(
    (option) => option !== undefined,
  );
  const known = architectures.find(({ name }) => name === model);
  return typed ? sgd() : (known?.recipe ?? sgd());
}

function optimizer(options: TrainOptions, known: Optimizer): Optimizer {
  const { kind, settings } = options.optimizer ?? { kind: known.kind, settings: {} };
  const own = kind === known.kind ? known : defaultOptimizers[kind]();
  const { momentum, nesterov, weightDecay = own.weightDecay, group: groups = own.groups } = options;
  if ((momentum !== undefined && !("momentum" in own)) || (nesterov && !("nesterov" in own))) {
    const name = momentum === undefined ? "--nesterov" : "--momentum";
    throw new UsageError(`Expected ${name} to be left out with ${own.kind}, which has none.`);
  }
  try {
    return checkedOptimizer({
      ...own,
      ...settings,
      weightDecay,
      groups,
      ...(!options.decayNorm && { noDecay: "norm-and-bias" }),
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
