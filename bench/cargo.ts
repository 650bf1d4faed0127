/** Programs of the workspace that the benchmark runs. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * Builds an example with optimisation.
 *
 * @returns the path of the program
 * @throws Error when cargo is missing or fails; what it complains of is on the terminal by then
 */
export function buildExample(crate: string, example: string): string {
  const args = [
    "build",
    "--release",
    "--package",
    crate,
    "--example",
    example,
    "--message-format",
    "json-render-diagnostics",
  ];
  const { stdout, status, error } = spawnSync("cargo", args, {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  if (error)
    throw new Error("Expected a Rust toolchain but found no cargo on the PATH: install it from https://rustup.rs.");
  if (status !== 0) throw new Error(`Expected cargo to build ${example} but it ended with exit code ${status}.`);
  const messages = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const artifact = messages.find(({ target, executable }) => executable && target.name === example);
  return artifact.executable;
}

/** The compiler's version, such as `rustc 1.89.0`. */
export function compilerVersion(): string {
  const { stdout } = spawnSync("rustc", ["--version"], { cwd: root, encoding: "utf8" });
  return stdout.split(" ", 2).join(" ");
}
