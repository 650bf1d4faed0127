import { extname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Augmentation } from "../data/augmentations.js";
import { FoveaError, hasCode } from "../errors.js";
import type { GraphDefinition } from "../model/definition.js";
import { isOnnx, Model } from "../model/model.js";
import { onnxDefinition } from "../model/onnx.js";
import { OnnxModel } from "../native.js";
import { isGraphDefinition } from "../training/run-config.js";
import { RunDirectory } from "../training/run-directory.js";
import { architectures } from "../zoo/index.js";
import type { SharedOptions } from "./options.js";
import { printNote, UsageError } from "./output.js";

/** What the MODEL of a command line stands for. */
export interface ResolvedModel {
  readonly name: string;
  readonly definition: GraphDefinition;
  /** The trained weights that belong to it, where there are some. */
  readonly weights?: string;
  /** What was done to the images that it was trained with; evaluation keeps the normalisation. */
  readonly augment?: readonly Augmentation[];
  /** Names of its classes, where they are known. */
  readonly classNames?: readonly string[];
  /** How arrays lie in the file that it came from. */
  readonly onnx?: OnnxModel;
}

/** Sizes other than a zoo model's own. */
export interface ModelSizes {
  readonly input?: [number, number, number] | undefined;
  readonly classes?: number | undefined;
}

export const modelHelp = "a zoo name (see `fovea zoo`), an .onnx file, a run directory, or a .js or .ts module";

const moduleExtensions = [".js", ".mjs", ".cjs", ".ts", ".mts", ".cts"];

/**
 * Finds a model by what was typed.
 *
 * @throws UsageError when it is none of what MODEL may be; FoveaError when it is one and cannot be had
 */
export async function resolveModel(text: string, sizes: ModelSizes = {}): Promise<ResolvedModel> {
  const architecture = architectures.find(({ name }) => name === text);
  if (architecture) return { name: text, definition: architecture.create(sizes).definition };
  if (sizes.input ?? sizes.classes) {
    throw new UsageError(`Expected a model of the zoo with --input or --classes but received "${text}".`);
  }
  if (isOnnx(text)) {
    const onnx = await OnnxModel.read(text);
    return { name: text, definition: onnxDefinition(onnx), weights: text, onnx };
  }
  if (moduleExtensions.includes(extname(text))) return fromModule(text);
  if (await RunDirectory.isRun(text)) {
    const { config, weightsPath } = await RunDirectory.open(text);
    const { model: name, graph: definition, augment, classNames } = config;
    return { name, definition, weights: weightsPath, augment, classNames };
  }
  const names = architectures.map(({ name }) => name).join(", ");
  throw new UsageError(
    `Expected a zoo model (${names}), an .onnx file, a run directory, or a .js or .ts module but received "${text}".`,
  );
}

/** A model that can compute. */
export interface LoadedModel {
  readonly name: string;
  readonly model: Model;
  readonly augment: readonly Augmentation[];
  readonly classNames: readonly string[];
  /** Whether its weights are those that training begins with. */
  readonly untrained: boolean;
  /** How arrays lie in the file that it came from. */
  readonly onnx?: OnnxModel;
}

/** The model with the weights that it is to be judged or used by. */
export async function loadModel(
  text: string,
  { weights, ...options }: SharedOptions & { readonly weights?: string },
): Promise<LoadedModel> {
  const resolved = await resolveModel(text);
  const file = weights ?? resolved.weights;
  const model = new Model(resolved.definition, options);
  if (file !== undefined) await model.load(file);
  const { name, augment = [], classNames = [], onnx } = resolved;
  return { name, model, augment, classNames, untrained: file === undefined, ...(onnx && { onnx }) };
}

/** Says so, where a result is that of initial weights; after the result, so that an error stays one line. */
export function noteUntrained({ name, untrained }: LoadedModel): void {
  if (untrained) printNote(`no --weights given, so ${name} has its initial weights`);
}

async function fromModule(path: string): Promise<ResolvedModel> {
  const { default: model } = await importModule(path);
  const definition = typeof model === "object" && model !== null ? Reflect.get(model, "definition") : undefined;
  if (!isGraphDefinition(definition)) {
    throw new FoveaError(
      "INVALID_ARGUMENT",
      `Expected a model as the default export of ${path} but found ${kind(model)}.`,
    );
  }
  return { name: definition.name, definition };
}

async function importModule(path: string): Promise<{ default?: unknown }> {
  try {
    return await import(pathToFileURL(resolve(path)).href);
  } catch (error) {
    // A module has its own copy of fovea, whose errors are of another class.
    if (error instanceof Error && error.name === "FoveaError") throw new FoveaError("INVALID_ARGUMENT", error.message);
    throw new FoveaError("IO", `Expected to load the module ${path} but ${moduleProblem(path, error)}.`, {
      cause: error,
    });
  }
}

function moduleProblem(path: string, error: unknown): string {
  if (hasCode(error, "ERR_UNKNOWN_FILE_EXTENSION")) {
    return `Node ${process.versions.node} does not read TypeScript: use Node 22.18 or newer, or compile it to .js`;
  }
  const message = error instanceof Error ? error.message : String(error);
  if (hasCode(error, "ERR_MODULE_NOT_FOUND") && message.includes(`'${resolve(path)}'`)) return "there is no such file";
  if (error instanceof SyntaxError && /import statement outside a module|Unexpected token 'export'/.test(message)) {
    return 'Node takes it for CommonJS: put "type": "module" into its package.json, or name it .mjs or .mts';
  }
  return `it failed: ${message.replace(/\.$/, "")}`;
}

function kind(value: unknown): string {
  return value === undefined ? "none" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
}
