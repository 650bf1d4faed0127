/**
 * The programs that are measured, each in a process of its own: it writes a line when it is ready, answers one JSON line
 * with another (peers/protocol.py says which), and in between waits without using the machine.
 *
 * No process outlives this one: those that still run are killed when it exits, whatever the reason; where it is killed
 * itself, they find their input closed.
 */

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";

/** What to start. */
export interface Program {
  /** What people call it. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** What to do, and for how long. */
export interface Request {
  readonly model: string;
  readonly mode: "train" | "infer";
  readonly batch: number;
  readonly threads: number;
  readonly seconds: number;
  /** How to do it; where nothing is said, the program finds its fastest. */
  readonly setting?: string;
}

/** What a slice of time gave. */
export interface Reply {
  readonly medianMs: number;
  readonly minMs: number;
  readonly maxMs: number;
  readonly steps: number;
  readonly setting: string;
  readonly peakMemoryBytes: number;
  /** What the program held before it was first asked for anything. */
  readonly startMemoryBytes: number;
  /** Of fovea alone: the instruction set, 10^9 operations a second, and the FMA peak beside them. */
  readonly isa?: string;
  readonly gflops?: number;
  readonly peakGflops?: number;
}

/** A program ended, or said that it cannot do what it was asked. */
export class PartyError extends Error {}

/** A program could not be started. */
export class StartError extends PartyError {}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

const running = new Set<Child>();
process.on("exit", () => running.forEach(kill));

/** On Windows there are no process groups, and the programs start no others there. */
const hasGroups = process.platform !== "win32";

function kill(child: Child): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    // A group of its own: it also has what the program started, and a terminal's Ctrl-C does not reach it.
    if (hasGroups) process.kill(-child.pid, "SIGKILL");
    else child.kill("SIGKILL");
  } catch {
    // It ended meanwhile.
  }
}

export class Party {
  readonly name: string;
  /** What its first line says it is: `"torch 2.15.0"`. */
  readonly version: string;
  readonly #child: Child;
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<string>;

  /**
   * Starts a program and waits until it is ready.
   *
   * @throws StartError with the last line of its error output when there is no such program, or it ends before
   */
  static async start(program: Program): Promise<Party> {
    const child = spawn(program.command, program.args, {
      stdio: ["pipe", "pipe", "pipe"],
      detached: hasGroups,
      env: { ...process.env, ...program.environment },
    });
    running.add(child);
    child.stdin.on("error", () => {}); // it died: reading its output tells how
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const ended = endOf(child);
    try {
      const { ready } = await read(program.name, lines, ended);
      if (typeof ready !== "string") throw new PartyError(`Expected ${program.name} to say that it is ready.`);
      return new Party(program.name, ready, child, lines, ended);
    } catch (error) {
      kill(child);
      throw new StartError(error instanceof Error ? error.message : String(error));
    }
  }

  private constructor(
    name: string,
    version: string,
    child: Child,
    lines: AsyncIterator<string>,
    ended: Promise<string>,
  ) {
    this.name = name;
    this.version = version;
    this.#child = child;
    this.#lines = lines;
    this.#ended = ended;
  }

  /**
   * Has it work for a slice of time.
   *
   * @throws PartyError with its own words when it cannot, or with how it ended
   */
  async ask(request: Request): Promise<Reply> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { error, ...reply } = await read(this.name, this.#lines, this.#ended);
    if (typeof error === "string") throw new PartyError(`${this.name}: ${error}`);
    if (!isReply(reply)) {
      throw new PartyError(`Expected times from ${this.name} but received ${JSON.stringify(reply)}.`);
    }
    return reply;
  }

  /** Ends it and waits until its memory is free. */
  async close(): Promise<void> {
    kill(this.#child);
    await this.#ended;
  }
}

/** How a process ended, in words, and what it last said. */
function endOf(child: Child): Promise<string> {
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaints = (complaints + text).slice(-4096);
  });
  return new Promise((resolve) => {
    const settle = (how: string): void => {
      running.delete(child);
      const last = complaints.trim().split("\n").at(-1);
      resolve(last ? `${how}: ${last}` : how);
    };
    child.on("error", (error) => settle(error.message));
    child.on("close", (code, signal) => settle(signal === null ? `exit code ${code}` : signal));
  });
}

/** The object on the next line. */
async function read(
  name: string,
  lines: AsyncIterator<string>,
  ended: Promise<string>,
): Promise<Record<string, unknown>> {
  const { done, value } = await lines.next();
  if (done) throw new PartyError(`Expected an answer from ${name} but it ended (${await ended}).`);
  try {
    const answer: unknown = JSON.parse(value);
    if (typeof answer === "object" && answer !== null) return { ...answer };
  } catch {
    // Said below.
  }
  throw new PartyError(`Expected a JSON object from ${name} but received ${JSON.stringify(value.slice(0, 200))}.`);
}

const numbers = ["medianMs", "minMs", "maxMs", "steps", "peakMemoryBytes", "startMemoryBytes"] as const;

function isReply(reply: object): reply is Reply {
  const isNumber = (key: string): boolean => Number.isFinite(Reflect.get(reply, key));
  return numbers.every(isNumber) && typeof Reflect.get(reply, "setting") === "string";
}
