import type { Augmentation } from "../data/augmentations.js";
import type { GraphDefinition } from "../model/definition.js";
import type { Algorithms } from "../model/model.js";
import type { FitOptions } from "./fit-options.js";
import { hasNumbers, isRecord } from "./json.js";
import type { Optimizer } from "./optimizers.js";
import type { Metric } from "./schedules.js";

/** `config.json`: the model and every option of a run, so that resuming it needs nothing else. */
export interface RunConfig {
  /** The name that the model goes by. */
  readonly model: string;
  /** DATA as the command line names it, with absolute paths. */
  readonly data: string;
  /** What is done about image files that cannot be read. */
  readonly corrupt: "fail" | "skip";
  /** Share of the training images that are kept to validate with; null for the test images, where there are some. */
  readonly validation: number | null;
  /** Names of the classes, in the order of the labels. */
  readonly classNames: readonly string[];
  /** The recipe that the options began with; null for none. */
  readonly recipe: string | null;
  /** The length of the run; one of the two is null. */
  readonly epochs: number | null;
  readonly steps: number | null;
  readonly batchSize: number;
  readonly optimizer: Optimizer;
  readonly labelSmoothing: number;
  /** The largest norm of the gradients; null for any. */
  readonly clipNorm: number | null;
  /** Parts in which a batch is computed. */
  readonly accumulate: number;
  /** Share that averages of the weights keep of themselves in every step; null for no averages. */
  readonly ema: number | null;
  /** A factor of each class's loss, or those under which every class counts the same; null for none. */
  readonly classWeights: "balanced" | readonly number[] | null;
  /** Layers that do not learn. */
  readonly frozen: readonly string[];
  readonly shuffle: boolean;
  /** Whether the last batch of an epoch is left out where it is smaller. */
  readonly dropLast: boolean;
  /** What is done to the images; all numbers are known. */
  readonly augment: readonly Augmentation[];
  readonly seed: number;
  readonly precision: "fast" | "strict";
  /** Algorithms that the run is held to. */
  readonly algorithms: Algorithms;
  /** Steps between checkpoints inside an epoch; null for none. */
  readonly saveEvery: number | null;
  /** What says which epoch is the best; null for the metric that `fit` chooses. */
  readonly monitor: Metric | null;
  /** Epochs that were not the best after which training ends; null for none. */
  readonly patience: number | null;
  /** How many checkpoints are kept in `checkpoints/`, besides the last one; null for none. */
  readonly keep: number | null;
  /** Whether the weights of the best epoch are written to `best.safetensors`. */
  readonly saveBest: boolean;
  /** Whether the epochs are written to `metrics.csv`, too. */
  readonly csv: boolean;
  readonly graph: GraphDefinition;
}

/** What a run does unless told otherwise. */
export const runDefaults = {
  corrupt: "fail",
  validation: null,
  classNames: [],
  recipe: null,
  clipNorm: null,
  accumulate: 1,
  ema: null,
  classWeights: null,
  frozen: [],
  dropLast: false,
  augment: [],
  algorithms: {},
  saveEvery: null,
  monitor: null,
  patience: null,
  keep: null,
  saveBest: false,
  csv: false,
} as const;

/** The options of `fit` that a configuration holds. */
export function fitOptions(config: RunConfig): FitOptions {
  const { batchSize, optimizer, labelSmoothing, shuffle, dropLast, augment, seed, accumulate, frozen } = config;
  return {
    ...{ batchSize, optimizer, labelSmoothing, shuffle, dropLast, augment, seed, accumulate, frozen },
    epochs: config.epochs ?? undefined,
    steps: config.steps ?? undefined,
    clipNorm: config.clipNorm ?? undefined,
    ema: config.ema ?? undefined,
    classWeights: config.classWeights ?? undefined,
    saveEvery: config.saveEvery ?? undefined,
    monitor: config.monitor ?? undefined,
    patience: config.patience ?? undefined,
  };
}

/** Whether parsed JSON is the configuration of a run. */
export function isRunConfig(config: unknown): config is RunConfig {
  return (
    hasNumbers(config, ["batchSize", "labelSmoothing", "seed"]) &&
    typeof config["model"] === "string" &&
    typeof config["data"] === "string" &&
    (typeof config["epochs"] === "number" || typeof config["steps"] === "number") &&
    hasNumbers(config["optimizer"], ["weightDecay"]) &&
    hasNumbers(config["optimizer"]["learningRate"], ["rate", "warmup"]) &&
    typeof config["shuffle"] === "boolean" &&
    (config["precision"] === "fast" || config["precision"] === "strict") &&
    isGraphDefinition(config["graph"])
  );
}

/** Whether something has the structure of a graph definition; what its layers say is left to `describe`. */
export function isGraphDefinition(graph: unknown): graph is GraphDefinition {
  return (
    isRecord(graph) &&
    typeof graph["name"] === "string" &&
    Array.isArray(graph["input"]) &&
    graph["input"].length === 3 &&
    Array.isArray(graph["nodes"]) &&
    graph["nodes"].every((node) => isRecord(node) && typeof node["op"] === "string" && Array.isArray(node["inputs"])) &&
    Array.isArray(graph["outputs"]) &&
    graph["outputs"].every(isRecord)
  );
}
