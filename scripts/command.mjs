import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The root of the repository. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** Ends the process with one sentence on stderr and exit code 1. */
export function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}

/** Ends the process with a sentence that says what to install when there is no Rust toolchain. */
export function requireCargo() {
  if (!spawnSync("cargo", ["--version"]).error) return;
  fail("Expected a Rust toolchain but found no cargo on the PATH: install it from https://rustup.rs and try again.");
}

/** Runs a program in the root of the repository with its output shown, and ends the process when it fails. */
export function run(command, args) {
  const { error, status, signal } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  const result = error?.message ?? signal ?? (status !== 0 && `exit code ${status}`);
  if (result) fail(`Expected "${command} ${args.join(" ")}" to succeed but received ${result}.`);
}

/** Runs a JavaScript program, its path given from the root of the repository, with this same Node. */
export function runNode(program, args = []) {
  run(process.execPath, [join(root, program), ...args]);
}
