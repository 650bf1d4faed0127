// Draws graphs at random, runs them in every way and compares with plain f64: `npm run fuzz:graphs [-- --minutes 10]
// [--seed 7] [--cases 20000] [--all] [--replay FILE]`. A wrong graph is made as small as it stays wrong and ends the run
// with exit code 1, with `--all` after the time is over; its line of JSON, in a file, is replayed by `--replay`.
// docs/reliability.md says what is drawn and compared.
//
// The development profile is optimised and keeps the assertions.

import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fail, requireCargo, root, run } from "./command.mjs";

const { values: options } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: String(randomInt(2 ** 31)) },
    cases: { type: "string" },
    first: { type: "string", default: "0" },
    all: { type: "boolean", default: false },
    replay: { type: "string" },
  },
});
for (const name of ["seed", "cases", "first"]) {
  const value = options[name] ?? "0";
  if (!/^\d+$/.test(value)) fail(`Expected a whole number for --${name} but received "${value}".`);
}
if (!(Number(options.minutes) > 0)) fail(`Expected minutes above 0 but received "${options.minutes}".`);

requireCargo();
run("cargo", ["build", "--locked", "--package", "fovea-engine", "--example", "fuzz_graphs"]);
const folder = JSON.parse(
  spawnSync("cargo", ["metadata", "--no-deps", "--format-version", "1"], { cwd: root, encoding: "utf8" }).stdout,
).target_directory;
const seconds = String(Math.ceil(60 * Number(options.minutes)));
const random = ["--seconds", seconds, "--seed", options.seed, "--first", options.first];
if (options.cases) random.push("--cases", options.cases);
if (options.all) random.push("--all");
run(join(folder, "debug", "examples", "fuzz_graphs"), options.replay ? ["--replay", options.replay] : random);
