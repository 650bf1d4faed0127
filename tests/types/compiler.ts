import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** What the TypeScript compiler prints for a project; its exit status does not matter here. */
export function compile(project: string, ...options: string[]): Promise<string> {
  const compiler = `${root}node_modules/typescript/bin/tsc`;
  return new Promise((resolve) => {
    execFile(process.execPath, [compiler, "--pretty", "false", "-p", project, ...options], { cwd: root }, (_, stdout) =>
      resolve(stdout),
    );
  });
}

/** The errors in one file: line number -> the whole message, further lines included. */
export function errorsByLine(output: string, file: string): ReadonlyMap<number, string> {
  const errors = new Map<number, string>();
  let current: number | undefined;
  for (const line of output.split("\n")) {
    const start = /^(\S+)\((\d+),\d+\): error /.exec(line);
    if (start) current = start[1]?.endsWith(file) ? Number(start[2]) : undefined;
    else if (!line.startsWith(" ")) current = undefined;
    if (current !== undefined) errors.set(current, `${errors.get(current) ?? ""}${line}\n`);
  }
  return errors;
}
