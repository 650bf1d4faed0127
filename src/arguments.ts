/** What callers hand over is what the types say: for those without a compiler. */
import { types } from "node:util";
import { invalidArgument } from "./errors.js";
import { Dataset } from "./native.js";

/** What an argument may be: the words of the sentence, and whether something is it. */
export interface Kind {
  readonly expected: string;
  readonly includes: (value: unknown) => boolean;
}

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
const isString = (value: unknown): boolean => typeof value === "string";

/** What arguments of several functions are. */
export const kinds = {
  dataset: { expected: "a data set of `datasets`", includes: (value) => value instanceof Dataset },
  object: { expected: "an object", includes: isObject },
  function: { expected: "a function", includes: (value) => typeof value === "function" },
  number: { expected: "a number", includes: (value) => typeof value === "number" },
  string: { expected: "a string", includes: isString },
  strings: {
    expected: "a list of strings",
    includes: (value) => Array.isArray(value) && value.every(isString),
  },
  objects: {
    expected: "a list of objects",
    includes: (value) => Array.isArray(value) && value.every(isObject),
  },
  numbers: {
    expected: "numbers or a Float32Array",
    includes: (value) =>
      types.isFloat32Array(value) || (Array.isArray(value) && value.every((each) => typeof each === "number")),
  },
  floats: { expected: "a Float32Array", includes: types.isFloat32Array },
  pixels: {
    expected: "a Uint8Array or Float32Array",
    includes: (value) => types.isUint8Array(value) || types.isFloat32Array(value),
  },
  targets: {
    expected: "a Uint32Array of classes or a Float32Array",
    includes: (value) => types.isUint32Array(value) || types.isFloat32Array(value),
  },
  signal: { expected: "an AbortSignal", includes: (value) => value instanceof AbortSignal },
} as const satisfies Readonly<Record<string, Kind>>;

/** @throws FoveaError `INVALID_ARGUMENT` unless a value is of a kind. */
export function check(name: string, { expected, includes }: Kind, value: unknown): void {
  if (!includes(value)) throw invalidArgument(name, expected, described(value));
}

/** As {@link check}, for what may be left out. */
export function checkOptional(name: string, kind: Kind, value: unknown): void {
  if (value !== undefined) check(name, kind, value);
}

/** Options, which are an object. */
export function checkedOptions<Options extends object>(options: Options): Options {
  check("options", kinds.object, options);
  return options;
}

/** `7`, `"text"`, `undefined`, `a Float64Array`, `an Array`. */
function described(value: unknown): string {
  if (typeof value === "string") return `"${value}"`;
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  const name = Object.prototype.toString.call(value).slice("[object ".length, -"]".length);
  return `${/^[AEIO]/.test(name) ? "an" : "a"} ${name}`;
}
