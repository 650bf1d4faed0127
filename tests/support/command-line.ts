import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The compiled command line. */
export const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** What a command left behind. */
export interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts a program. */
export function startProgram(
  program: string,
  args: readonly string[],
  cwd?: string,
): { child: ChildProcess; outcome: Promise<Outcome> } {
  const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  const outcome = new Promise<Outcome>((resolve, reject) => {
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (exitCode) => resolve({ exitCode, stdout, stderr }));
  });
  return { child, outcome };
}

/** Starts the real command line in a process of its own. */
export function start(args: readonly string[], cwd?: string): { child: ChildProcess; outcome: Promise<Outcome> } {
  return startProgram(process.execPath, [main, ...args], cwd);
}

/** Runs a command to its end. */
export async function fovea(args: readonly string[], cwd?: string): Promise<Outcome> {
  return start(args, cwd).outcome;
}

/** Runs a command that must succeed with `--json`, and gives what it printed. */
export async function foveaJson(args: readonly string[], cwd?: string): Promise<Record<string, unknown>> {
  const { exitCode, stdout, stderr } = await fovea([...args, "--json"], cwd);
  if (exitCode !== 0) throw new Error(`fovea ${args.join(" ")} exited with ${exitCode}: ${stderr}`);
  return JSON.parse(stdout);
}
