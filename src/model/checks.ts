/** Checks that layers share, and the sentences in which they fail. */
import { FoveaError, invalidArgument } from "../errors.js";
import type { Shape } from "./shape.js";

/** The engine's bound of a size. */
const largestSize = 2 ** 20;

/** @throws FoveaError unless a size, count or step is a whole number from 1 that the engine takes. */
export function positive(name: string, value: number): void {
  if (!isWhole(value) || value < 1) throw invalidArgument(name, `a whole number from 1 to ${largestSize}`, value);
}

/** Whether a value is a whole number from 0 that the engine takes as a size. */
export function isWhole(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= largestSize;
}

/** The error of a layer that does not fit what it reads. */
export function invalidShape(expected: string, received: string, input?: Shape): FoveaError {
  const reading = input === undefined ? "" : ` (input ${text(input)})`;
  return new FoveaError("INVALID_SHAPE", `Expected ${expected} but received ${received}${reading}.`);
}

/** The error of names and numbers of layers that make no graph. */
export function invalidGraph(expected: string, received: string): FoveaError {
  return new FoveaError("INVALID_GRAPH", `Expected ${expected} but received ${received}.`);
}

/** Sizes as messages have them: `[28, 28, 1]`. */
export function text(sizes: readonly number[] | string): string {
  return typeof sizes === "string" ? sizes : `[${sizes.join(", ")}]`;
}
