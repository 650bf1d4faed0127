import { type Command, InvalidArgumentError, Option } from "commander";
import type { AlgorithmName, Algorithms } from "../model/model.js";

/**
 * The options that several commands share, and what their texts must be.
 *
 * A parser throws commander's InvalidArgumentError, which becomes one line that names the option, and exit code 2.
 */

export interface SharedOptions {
  readonly threads?: number;
  readonly seed?: number;
  readonly precision?: "fast" | "strict";
  readonly algorithm?: Algorithms;
  readonly json?: boolean;
}

export const jsonOption = (): Option => new Option("--json", "print one JSON object and nothing else");

export const threadsOption = (): Option =>
  new Option("--threads <n>", "threads that compute (default: all that this process may use)").argParser(
    positiveInteger,
  );

export const seedOption = (): Option =>
  new Option("--seed <n>", "key of initial weights and order (default: 0)").argParser(wholeNumber);

export const precisionOption = (): Option =>
  new Option("--precision <kind>", "fast algorithms or direct summation only (default: fast)").choices([
    "fast",
    "strict",
  ]);

const algorithmNames: readonly AlgorithmName[] = ["direct", "scatter", "packed", "winograd"];

export const algorithmOption = (): Option =>
  new Option(
    "--algorithm <layer=name>",
    `compute a layer, or LAYER.forward, .inputGradient or .weightGradient, by one of ${algorithmNames.join(", ")}; may be repeated`,
  ).argParser((text: string, earlier: Algorithms = {}): Algorithms => {
    const equals = text.lastIndexOf("=");
    const algorithm = algorithmNames.find((name) => name === text.slice(equals + 1));
    if (equals < 1 || algorithm === undefined) {
      throw new InvalidArgumentError(`Expected LAYER=${algorithmNames.join("|")} but received "${text}".`);
    }
    return { ...earlier, [text.slice(0, equals)]: algorithm };
  });

export const modeOption = (): Option =>
  new Option("--mode <mode>", "the step to look at").choices(["train", "infer"]).default("train");

export const weightsOption = (): Option =>
  new Option("--weights <file>", "safetensors file (default: those of a run directory, else initial ones)");

export const batchOption = (images: number): Option =>
  new Option("--batch <n>", "images computed at once").argParser(positiveInteger).default(images);

/** What commands that compute with a trained model are told besides. */
export interface InferenceOptions extends SharedOptions {
  readonly batch: number;
  readonly weights?: string;
}

/** The options of {@link InferenceOptions}, after those of the command itself; `batch` is how many images by default. */
export function addInferenceOptions(command: Command, batch: number): Command {
  const options = [weightsOption(), batchOption(batch), threadsOption(), seedOption(), precisionOption(), jsonOption()];
  return options.reduce((command, option) => command.addOption(option), command);
}

export function positiveInteger(text: string): number {
  return parsed(text, "a positive whole number", (value) => Number.isSafeInteger(value) && value > 0);
}

export function wholeNumber(text: string): number {
  return parsed(text, "a whole number of at least 0", (value) => Number.isSafeInteger(value) && value >= 0);
}

/** A port to listen on; 0 lets the system choose. */
export function portNumber(text: string): number {
  return parsed(text, "a port from 0 to 65535", (value) => Number.isSafeInteger(value) && value >= 0 && value < 65536);
}

export function positiveNumber(text: string): number {
  return parsed(text, "a positive number", (value) => Number.isFinite(value) && value > 0);
}

export function nonNegativeNumber(text: string): number {
  return parsed(text, "a number of at least 0", (value) => Number.isFinite(value) && value >= 0);
}

/** A number from 0 to below 1. */
export function fraction(text: string): number {
  return parsed(text, "a number from 0 to below 1", (value) => value >= 0 && value < 1);
}

/** `HxWxC`, as in `28x28x1`. */
export function imageShape(text: string): [number, number, number] {
  const match = /^(\d+)x(\d+)x(\d+)$/.exec(text);
  const [height, width, channels] = (match?.slice(1) ?? []).map(Number);
  if (!height || !width || !channels) {
    throw new InvalidArgumentError(`Expected HEIGHTxWIDTHxCHANNELS, as in 28x28x1, but received "${text}".`);
  }
  return [height, width, channels];
}

function parsed(text: string, expected: string, valid: (value: number) => boolean): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!valid(value)) throw new InvalidArgumentError(`Expected ${expected} but received "${text}".`);
  return value;
}
