import { readFileSync } from "node:fs";
import type { WriteStream } from "node:tty";
import { FoveaError } from "../errors.js";

/** A mistake in what was typed, as opposed to something that went wrong: exit code 2. */
export class UsageError extends Error {}

/** Prints the result of a command: with `--json` one JSON object and nothing else, without it text for people. */
export function printResult<Result>(json: boolean | undefined, result: Result, text: (result: Result) => string): void {
  process.stdout.write(`${json ? JSON.stringify(result) : text(result)}\n`);
}

/** A remark beside the result; never on standard output. */
export function printNote(text: string): void {
  process.stderr.write(`${paint(process.stderr, "dim", `note: ${text}`)}\n`);
}

/** One line on standard error, whatever the message was. */
export function printError(message: string): void {
  process.stderr.write(`${paint(process.stderr, "red", "error:")} ${message.replace(/\s*\n\s*/g, " ").trim()}\n`);
}

/** The sentence and the exit code of whatever a command threw. */
export function explainError(error: unknown): { readonly message: string; readonly exitCode: 1 | 2 } {
  if (error instanceof UsageError) return { message: error.message, exitCode: 2 };
  if (error instanceof FoveaError) return { message: error.message, exitCode: 1 };
  if (error instanceof Error && "syscall" in error) {
    return { message: `The operating system refused: ${error.message}.`, exitCode: 1 };
  }
  return { message: `Something unforeseen went wrong: ${error instanceof Error ? error.message : error}`, exitCode: 1 };
}

const styles = { dim: 2, bold: 1, red: 31, green: 32 } as const;

/** Colour, on terminals that want it. */
export function paint(stream: WriteStream | NodeJS.WriteStream, style: keyof typeof styles, text: string): string {
  const wanted = stream.isTTY && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";
  return wanted ? `\u001b[${styles[style]}m${text}\u001b[0m` : text;
}

export function percent(share: number, digits = 2): string {
  return `${(100 * share).toFixed(digits)} %`;
}

export function whole(count: number): string {
  return Math.round(count).toLocaleString("en-US");
}

/** A number of things: `1 thread`, `2 threads`. */
export function count(number: number, thing: string): string {
  return `${whole(number)} ${thing}${number === 1 ? "" : "s"}`;
}

/**
 * The most memory that this process has held, in bytes.
 *
 * Linux carries the system's count over from the program that started this one; only /proc tells this program's own.
 */
export function peakMemoryBytes(): number {
  const own = process.platform === "linux" && /VmHWM:\s*(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"));
  return (own ? Number(own[1]) : process.resourceUsage().maxRSS) * 1024;
}
