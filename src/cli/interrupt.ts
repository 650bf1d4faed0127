import { constants } from "node:os";
import { printNote } from "./output.js";

const signals = ["SIGINT", "SIGTERM"] as const;

/**
 * Turns Ctrl-C, and a polite `kill`, into an abort signal; the second one ends the process at once.
 *
 * `beforeMessage` makes the terminal ready for a line of text, `message` says what happens now.
 */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #beforeMessage: () => void;
  readonly #message: string;
  /** What a shell expects of a process that ended by a signal. */
  exitCode = 130;

  constructor(beforeMessage: () => void, message: string) {
    this.#beforeMessage = beforeMessage;
    this.#message = message;
    for (const signal of signals) process.on(signal, this.#stop);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  dispose(): void {
    for (const signal of signals) process.off(signal, this.#stop);
  }

  readonly #stop = (signal: NodeJS.Signals): void => {
    this.exitCode = 128 + constants.signals[signal];
    this.#beforeMessage();
    if (this.signal.aborted) {
      // Without a listener the signal ends the process in the middle of a step; process.exit would wait for its end.
      this.dispose();
      process.kill(process.pid, signal);
      return;
    }
    printNote(`${this.#message} (once more to quit at once)`);
    this.#controller.abort();
  };
}
