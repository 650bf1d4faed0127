/**
 * The only file that loads the native addon: at its first use, so that a model can be described and its shapes checked
 * where no binary runs. Native errors leave this file as `FoveaError`s.
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
  loaded ??= translateAll(load());
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
  const isArgument = code === "InvalidArg" || String(code).endsWith("Expected");
  throw new FoveaError(isArgument ? "INVALID_ARGUMENT" : "INTERNAL", error.message, { cause: error });
}

/** Makes every method of the addon's classes translate its errors; the constructors are left to `door`. */
function translateAll(loading: Addon): Addon {
  const holders = [loading.Dataset, loading.Dataset.prototype, loading.Session.prototype];
  for (const holder of holders) {
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(holder))) {
      if (name === "constructor" || typeof property.value !== "function") continue;
      const method: (...args: unknown[]) => unknown = property.value;
      Object.defineProperty(holder, name, {
        ...property,
        value(this: unknown, ...args: unknown[]) {
          return translate(() => method.apply(this, args));
        },
      });
    }
  }
  return loading;
}

/** An export of the addon that loads it when it is first called, constructed or looked into. */
function door<Name extends keyof Addon>(name: Name): Addon[Name] {
  // A function expression can be constructed, which an arrow function cannot.
  // biome-ignore lint/complexity/useArrowFunction: the proxy's construct trap needs a constructor as its target
  const target = function () {};
  return new Proxy(target, {
    apply: (_, self, args) => translate(() => Reflect.apply(addon()[name] as () => unknown, self, args)),
    construct: (_, args) => translate(() => Reflect.construct(addon()[name] as new () => object, args)),
    get: (_, key) => Reflect.get(addon()[name], key),
  }) as unknown as Addon[Name];
}

export type {
  Benchmark,
  Evaluation,
  NpyArray,
  OptimizerOptions,
  ParameterInfo,
  SessionOptions,
  TrainRequest,
  TrainResult,
} from "../index.js";

/** Images and labels in native memory; immutable, shared by the sessions that read it. */
export const Dataset = door("Dataset");
export type Dataset = native.Dataset;

/** A network with its parameters, plan and driver thread. */
export const Session = door("Session");
export type Session = native.Session;

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
