/**
 * `npm run bench:check [-- --update]`: counts the instructions of a few steps under valgrind and holds them against
 * instructions.json. A count does not depend on what else the machine does, so a change of three in a hundred shows.
 *
 * It is AVX2 code on one thread, which valgrind knows, on Linux on x64. Fewer instructions fail, too: kept with --update,
 * they are what later changes are held against. What it cannot see is waiting for memory; `npm run bench` shows that.
 */

import { spawn, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { printError, printNote } from "../src/cli/output.js";
import { plainTable } from "../src/report/table.js";
import { buildExample, compilerVersion } from "./cargo.js";
import { type Expectations, judge, toleranceFor } from "./expectations.js";
import { type Step, steps } from "./instructions.js";

const file = new URL("instructions.json", import.meta.url);
const { values } = parseArgs({ options: { update: { type: "boolean", default: false } } });

const reason = unable();
if (reason === undefined) process.exitCode = await check(values.update);
else printNote(`instructions are not counted: ${reason}`);

/** Why there is nothing to count here. */
function unable(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "the counts are those of Linux on x64";
  if (!readFileSync("/proc/cpuinfo", "utf8").includes(" avx2 ")) return "this processor has no AVX2";
  if (spawnSync("valgrind", ["--version"]).error) return "there is no valgrind (on Debian: apt-get install valgrind)";
  return undefined;
}

/** The exit code: 0 when every count is as expected, or was written down. */
async function check(update: boolean): Promise<0 | 1> {
  const program = buildExample("fovea-engine", "step");
  const compiler = compilerVersion();
  const counts = await countAll(program);
  if (update) {
    writeFileSync(file, `${JSON.stringify({ compiler, counts } satisfies Expectations, null, 2)}\n`);
    process.stdout.write(
      `${plainTable([{ title: "step", align: "left" }, { title: "instructions" }], table(counts))}\n`,
    );
    return 0;
  }
  const expected: Expectations = JSON.parse(readFileSync(file, "utf8"));
  if (expected.compiler !== compiler) {
    const percent = 100 * toleranceFor(expected, compiler);
    printNote(`the counts are those of ${expected.compiler}, with ${compiler} they may differ by ${percent} %`);
  }
  const verdict = judge(expected, compiler, counts);
  process.stdout.write(`${verdict.table}\n`);
  for (const problem of verdict.problems) printError(problem);
  return verdict.problems.length > 0 ? 1 : 0;
}

function table(counts: Expectations["counts"]): string[][] {
  return Object.entries(counts).map(([name, count]) => [name, count.toLocaleString("en-US")]);
}

/** Counts every step, as many at once as there are cores. */
async function countAll(program: string): Promise<Record<string, number>> {
  const waiting = Object.entries(steps);
  const counted = new Map<string, number>();
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      counted.set(next[0], await count(program, next[1]));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return Object.fromEntries(Object.keys(steps).map((name) => [name, counted.get(name) ?? Number.NaN]));
}

/** Instructions of one step, its warm-up left out. */
function count(program: string, { definition, mode, batch, precision }: Step): Promise<number> {
  const callgrind = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
  const within = ["--collect-atstart=no", "--toggle-collect=step::measured"];
  const child = spawn("valgrind", [...callgrind, ...within, program, mode, `${batch}`, precision], {
    stdio: ["pipe", "ignore", "pipe"],
    env: { ...process.env, FOVEA_ISA: "avx2" },
  });
  process.on("exit", () => child.kill("SIGKILL"));
  let output = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  child.stdin.on("error", () => {}); // it ended before it had read all: its exit code tells
  child.stdin.end(JSON.stringify(definition));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      const collected = Number(/Collected : (\d+)/.exec(output)?.[1] ?? 0);
      if (code === 0 && collected > 0) resolve(collected);
      else reject(new Error(`Expected valgrind to count a step of ${definition.name} but received: ${output.trim()}`));
    });
  });
}
