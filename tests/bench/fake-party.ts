import { existsSync, readFileSync } from "node:fs";
import type { Program } from "../../bench/party.js";

/** A program that is ready at once and does what it is told with each `request`: `reply(object)` answers. */
export function fakeParty(name: string, onRequest: string): Program {
  const source = `
    const reply = (answer) => console.log(JSON.stringify(answer));
    const times = (medianMs, setting = "usual") =>
      ({ medianMs, minMs: medianMs, maxMs: medianMs, steps: 3, setting, peakMemoryBytes: 3e6, startMemoryBytes: 1e6 });
    reply({ ready: "${name} 1.0" });
    require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
      const request = JSON.parse(line);
      ${onRequest}
    });`;
  return { name, command: process.execPath, args: ["-e", source] };
}

/** Whether a process is there; one that ended and that nobody asked about is not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const status = `/proc/${pid}/status`;
  return !existsSync(status) || !/^State:\s*Z/m.test(readFileSync(status, "utf8"));
}

/** Code that adds a line to a file: the value of an expression in the party's words. */
export function appendTo(file: string, expression: string): string {
  return `require("node:fs").appendFileSync(${JSON.stringify(file)}, ${expression} + "\\n");`;
}

export function linesOf(file: string): string[] {
  return readFileSync(file, "utf8").trimEnd().split("\n");
}
