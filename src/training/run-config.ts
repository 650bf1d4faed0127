import type { GraphDefinition } from "../model/definition.js";
import type { Optimizer } from "./optimizers.js";

/** `config.json`: the model and every option of a run, so that resuming it needs nothing else. */
export interface RunConfig {
  /** The name that the model goes by. */
  readonly model: string;
  /** DATA as the command line names it, with absolute paths. */
  readonly data: string;
  /** The length of the run; one of the two is null. */
  readonly epochs: number | null;
  readonly steps: number | null;
  readonly batchSize: number;
  readonly optimizer: Optimizer;
  readonly labelSmoothing: number;
  readonly shuffle: boolean;
  readonly seed: number;
  readonly precision: "fast" | "strict";
  /** Steps between checkpoints inside an epoch; null for none. */
  readonly saveEvery: number | null;
  readonly graph: GraphDefinition;
}

/** Whether parsed JSON is the configuration of a run. */
export function isRunConfig(config: unknown): config is RunConfig {
  return (
    hasNumbers(config, ["batchSize", "labelSmoothing", "seed"]) &&
    typeof config["model"] === "string" &&
    typeof config["data"] === "string" &&
    (typeof config["epochs"] === "number" || typeof config["steps"] === "number") &&
    hasNumbers(config["optimizer"], ["momentum", "weightDecay"]) &&
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

/** Whether something is an object that has numbers under all of these keys. */
export function hasNumbers(value: unknown, keys: readonly string[]): value is Record<string, unknown> {
  return isRecord(value) && keys.every((key) => typeof value[key] === "number");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
