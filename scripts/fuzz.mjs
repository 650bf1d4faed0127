// Feeds the parsers what coverage-guided mutation makes of fuzz/corpus: `npm run fuzz [-- --seconds 10] [TARGET...]`.
// Each target runs for so many seconds; a crash, a hang or too much memory ends it with exit code 1 and the input's file.
// With `--keep`, inputs that reach new code are added to the corpus.
//
// libFuzzer runs on the stable toolchain: the compiler's coverage pass is switched on by hand, as cargo-fuzz would on
// nightly. It needs a C++ compiler.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fail, requireCargo, root } from "./command.mjs";

const { values: options, positionals } = parseArgs({
  options: { seconds: { type: "string", default: "10" }, keep: { type: "boolean", default: false } },
  allowPositionals: true,
});
const folder = join(root, "fuzz");
const known = readdirSync(join(folder, "targets")).map((file) => file.replace(/\.rs$/, ""));
const targets = positionals.length > 0 ? positionals : known;
const unknown = targets.find((target) => !known.includes(target));
if (unknown) fail(`Expected one of ${known.join(", ")} but received "${unknown}".`);
if (!(Number(options.seconds) > 0)) fail(`Expected seconds above 0 but received "${options.seconds}".`);

requireCargo();
const triple = /host: (\S+)/.exec(spawnSync("rustc", ["-vV"], { encoding: "utf8" }).stdout)?.[1] ?? "";
const build = join(folder, "target");
const coverage = ["level=4", "inline-8bit-counters", "pc-table", "trace-compares"];
const flags = [
  "--cfg=fuzzing",
  "-Cpasses=sancov-module",
  ...coverage.map((option) => `-Cllvm-args=-sanitizer-coverage-${option}`),
];

/** Runs a program with its output shown, and ends this one when it fails. */
function run(command, args, env = {}) {
  const { error, status, signal } = spawnSync(command, args, { stdio: "inherit", env: { ...process.env, ...env } });
  const result = error?.message ?? signal ?? (status !== 0 && `exit code ${status}`);
  if (result) fail(`Expected "${command} ${args.join(" ")}" to succeed but received ${result}.`);
}

// With a target triple, build scripts and macros stay without the flags.
const manifest = ["--manifest-path", join(folder, "Cargo.toml")];
run("cargo", ["build", "--locked", "--release", ...manifest, "--target", triple], {
  CARGO_ENCODED_RUSTFLAGS: flags.join("\x1f"),
  CARGO_TARGET_DIR: build,
});
/** What targets have of their own: more inputs, more memory (decoders hold several copies of 64 million pixels), longer inputs. */
const own = {
  cifar10: { longest: 6146 },
  onnx: { megabytes: 4096 }, // an import may make arrays of 1 GiB, which a dense layer transposes
  image: { seeds: [join(root, "crates", "data", "tests", "images")], megabytes: 2048, longest: 2048 },
};
for (const target of targets) {
  const program = join(build, triple, "release", target);
  const corpus = join(folder, "corpus", target);
  const found = mkdtempSync(join(tmpdir(), `fovea-fuzz-${target}-`));
  console.log(`\n${target}: ${readdirSync(corpus).length} inputs, ${options.seconds} s`);
  const { seeds = [], megabytes = 512, longest = 1024 } = own[target] ?? {};
  const limits = ["-max_len=8192", "-timeout=5", `-rss_limit_mb=${megabytes}`];
  const quiet = ["-seed=1", "-verbosity=0", "-print_final_stats=1"];
  const artifacts = `-artifact_prefix=${join(folder, `${target}-`)}`;
  const seconds = `-max_total_time=${options.seconds}`;
  run(program, [...limits, artifacts, seconds, ...quiet, found, corpus, ...seeds]);
  // Inputs that reach code which no other reaches; how often they reach it does not count, or there would be thousands.
  if (options.keep)
    run(program, ["-set_cover_merge=1", "-use_counters=0", `-max_len=${longest}`, "-verbosity=0", corpus, found]);
  rmSync(found, { recursive: true });
}
