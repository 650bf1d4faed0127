/**
 * The only file that loads the native addon: at its first use, so that the package can be imported where no
 * binary runs. Describing a layer is a use, since the engine knows its shape: where no binary fits, building a
 * model throws `NO_BINARY`. Native errors leave this file as `FoveaError`s.
 */

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type * as native from "../index.js";
import { type ErrorCode, FoveaError } from "./errors.js";

type Addon = typeof native;

/** The platforms whose binaries the release workflow puts into the package. */
const published = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64", "win32-x64"];

const nativeCodes: readonly string[] = [
  "INVALID_GRAPH",
  "INVALID_ARGUMENT",
  "INVALID_SHAPE",
  "INVALID_DATA",
  "INVALID_WEIGHTS",
  "NOT_FINITE",
  "IO",
  "ABORTED",
  "CLOSED",
  "INTERNAL",
] satisfies ErrorCode[];

const root = fileURLToPath(new URL("..", import.meta.url));
let loaded: Addon | undefined;

function addon(): Addon {
  if (loaded === undefined) {
    loaded = load();
    translatePrototype(loaded.Session.prototype);
    translatePrototype(loaded.OnnxModel.prototype);
  }
  return loaded;
}

function load(): Addon {
  const require = createRequire(import.meta.url);
  const nodeGypBuild: { (directory: string): Addon; resolve(directory: string): string } = require("node-gyp-build");
  try {
    return nodeGypBuild(root);
  } catch (cause) {
    const reason = String(cause instanceof Error ? cause.message : cause).split("\n", 1)[0];
    throw new FoveaError(
      "NO_BINARY",
      `Expected a native binary for ${process.platform}-${process.arch} but none could be loaded (${reason}): ` +
        `the package brings them for ${published.join(", ")}; elsewhere, run \`npm install\` in a checkout of ` +
        "fovea, which builds one with cargo.",
      { cause },
    );
  }
}

/** Where the binary that is used lies. */
function binaryPath(): string {
  addon();
  return createRequire(import.meta.url)("node-gyp-build").resolve(root);
}

/** Calls native code and turns what it throws, at once or later, into a `FoveaError`. */
function translate<Result>(call: () => Result): Result {
  try {
    const result = call();
    return result instanceof Promise ? (result.catch(raise) as Result) : result;
  } catch (error) {
    return raise(error);
  }
}

function raise(error: unknown): never {
  if (error instanceof FoveaError || !(error instanceof Error)) throw error;
  const { code } = error as Error & { code?: unknown };
  if (nativeCodes.includes(String(code))) throw new FoveaError(code as ErrorCode, error.message, { cause: error });
  // napi's own words for an argument of another type than the declarations say.
  if (code === "InvalidArg" || String(code).endsWith("Expected")) {
    const words = error.message.replaceAll(/\s+/g, " ").replace(/\.$/, "");
    const sentence = `Expected arguments of the types that are declared but received others: ${words}.`;
    throw new FoveaError("INVALID_ARGUMENT", sentence, { cause: error });
  }
  throw new FoveaError("INTERNAL", error.message, { cause: error });
}

/** Makes the methods and getters of a class translate their errors. */
function translatePrototype(prototype: object): void {
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
    if (name === "constructor") continue;
    const { value, get } = property;
    if (typeof value === "function") property.value = translated(value);
    if (get) property.get = translated(get);
    Object.defineProperty(prototype, name, property);
  }
}

/** A function that calls another with its own `this` and translates the errors. */
function translated<Arguments extends unknown[], Result>(
  original: (...args: Arguments) => Result,
): (...args: Arguments) => Result {
  return function (this: unknown, ...args) {
    return translate(() => original.apply(this, args));
  };
}

/** An export of the addon that loads it when it is first called, constructed or looked into. */
function door<Name extends keyof Addon>(name: Name): Addon[Name] {
  // biome-ignore lint/complexity/useArrowFunction: only a function that can be constructed can have a construct trap
  const target = function () {};
  return new Proxy(target, {
    apply: (_, self, args) => translate(() => Reflect.apply(addon()[name] as () => unknown, self, args)),
    construct: (_, args) => translate(() => Reflect.construct(addon()[name] as new () => object, args)),
    get: (_, key) => {
      const member: unknown = Reflect.get(addon()[name], key);
      return typeof member === "function" ? translated(member as (...args: unknown[]) => unknown) : member;
    },
  }) as unknown as Addon[Name];
}

export type {
  BatchResult,
  Benchmark,
  EvaluateOptions,
  Evaluation,
  FolderOptions,
  NodeDescription,
  NpyArray,
  OptimizerOptions,
  ParameterGroupOptions,
  ParameterInfo,
  SessionOptions,
  SkippedFile,
  Statistics,
  TrainResult,
  UpdateOptions,
} from "../index.js";

/** A run of training steps. */
export type TrainRequest = native.TrainRequest & native.UpdateOptions;

/** A step of training on the caller's batch. */
export type BatchRequest = native.BatchRequest & native.UpdateOptions;

/** Images and labels in native memory; immutable, shared by the sessions that read it. */
export const Dataset = door("Dataset");
export type Dataset = native.Dataset;

/** Stops the commands that it is given to. */
export const AbortHandle = door("AbortHandle");
export type AbortHandle = native.AbortHandle;

/** A network with its parameters, plan and driver thread. */
export const Session = door("Session");
export type Session = native.Session;

/** What a layer makes of its inputs, and every layer of a network; vectors are [1, 1, n]. */
export const describeNode = door("describeNode");
export const describeGraph = door("describeGraph");

/** Reads image files as a network takes them: `files x height x width x channels` values from 0 to 1. */
export const decodeImages = door("decodeImages");

/** A network out of an ONNX file: its definition, its weights, and how its arrays lie. */
export const OnnxModel = door("OnnxModel");
export type OnnxModel = native.OnnxModel;

export const readNpy = door("readNpy");
export const writeNpy = door("writeNpy");

/** What `fovea doctor` prints. */
export interface DoctorReport {
  /** Whether an instruction set is chosen and every kernel computes what it should. */
  readonly ok: boolean;
  readonly version: string;
  readonly platform: string;
  readonly arch: string;
  /** Version of Node.js. */
  readonly node: string;
  /** The native binary that is used. */
  readonly binary: string;
  /** Features of the processor that the kernels can make use of. */
  readonly cpuFeatures: readonly string[];
  readonly isa: {
    readonly chosen: string | null;
    readonly available: readonly string[];
    /** Why none is chosen. */
    readonly problem: string | null;
  };
  /** Threads a session uses unless told otherwise. */
  readonly threads: number;
  /** Every kernel on every instruction set, held against a plain computation. */
  readonly checks: readonly {
    readonly isa: string;
    readonly kernel: string;
    readonly ok: boolean;
    readonly error: number;
  }[];
}

/** Says what this machine has, which binary is used, and whether every kernel computes what it should. */
export async function doctor(): Promise<DoctorReport> {
  const report = JSON.parse(await door("doctor")());
  const { ok, version, ...rest } = report;
  const { platform, arch, version: node } = process;
  return { ok, version, platform, arch, node, binary: binaryPath(), ...rest };
}
