/** What kind of thing went wrong; stable, for programs to branch on. The first ten are native, too. */
export type ErrorCode =
  | "INVALID_GRAPH"
  | "INVALID_ARGUMENT"
  | "INVALID_SHAPE"
  | "INVALID_DATA"
  | "INVALID_WEIGHTS"
  | "NOT_FINITE"
  | "IO"
  | "ABORTED"
  | "CLOSED"
  | "INTERNAL"
  | "BUSY"
  | "NO_BINARY";

/**
 * Every error that fovea raises on purpose: one sentence with the numbers in it, and a stable code.
 *
 * @param code what kind of thing went wrong
 * @param message one sentence: `Expected X for "layer" but received Y.`
 * @param options the standard `cause`, where another error stands behind this one
 * @example
 * ```ts
 * import { FoveaError, input } from "fovea";
 *
 * try {
 *   const side: number = 4; // known only when the program runs
 *   input(side, side, 1).conv(8, 5);
 * } catch (error) {
 *   if (!(error instanceof FoveaError)) throw error;
 *   console.log(error.code); // INVALID_SHAPE
 *   console.log(error.message);
 *   // Expected a kernel within the padded input of 4x4 for "conv1" but received 5x5 (input [4, 4, 1]).
 * }
 * ```
 */
export class FoveaError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "FoveaError";
    this.code = code;
  }
}

/** The error of an argument outside its range: `Expected a positive number for "learningRate" but received -1.` */
export function invalidArgument(name: string, expected: string, received: unknown): FoveaError {
  return new FoveaError("INVALID_ARGUMENT", `Expected ${expected} for "${name}" but received ${String(received)}.`);
}

/** Whether something thrown carries a code: ours, a native one, or one of Node's (`ENOENT`). */
export function hasCode<Code extends string>(error: unknown, code: Code): error is Error & { readonly code: Code } {
  return error instanceof Error && "code" in error && error.code === code;
}
