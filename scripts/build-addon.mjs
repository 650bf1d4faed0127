// Builds the native addon and writes it to build/Release/fovea.node, where node-gyp-build looks first.
//
//   node scripts/build-addon.mjs [--target <triple>[.<glibc version>]] [--output <folder>]
//
// --target cross-compiles with cargo-zigbuild, for example for x86_64-unknown-linux-gnu.2.17; such a binary is stripped.

import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { fail, requireCargo, root, run, runNode } from "./command.mjs";

const { values } = parseArgs({ options: { target: { type: "string" }, output: { type: "string" } } });
const addon = resolve(values.output ?? join(root, "build", "Release"), "fovea.node");

requireCargo();
if (values.target) crossCompile(values.target);
else compile();

/** Builds for this machine; napi also writes the addon's declarations. */
function compile() {
  const directory = join(root, "build", "napi");
  const options = ["--release", "--manifest-path", "crates/node/Cargo.toml", "--output-dir", "build/napi"];
  // napi sets this variable in its first build only, and cargo would build the addon again because it changed.
  const steady = ["value='1'", "force=true"].flatMap((entry) => [
    "--config",
    `env.NAPI_FORCE_BUILD_FOVEA_NODE.${entry}`,
  ]);
  const napi = "node_modules/@napi-rs/cli/dist/cli.js";
  runNode(napi, ["build", ...options, "--no-js", "--dts", "index.d.ts", "--", ...steady]);
  replace(join(directory, "index.d.ts"), join(root, "index.d.ts"));
  replace(join(directory, "fovea.node"), addon);
}

/** Builds for another machine, or for an older C library than this machine has. */
function crossCompile(triple) {
  // Rust links musl statically unless told otherwise, and a static library cannot be loaded by Node.
  if (triple.includes("-musl")) process.env.RUSTFLAGS = "-C target-feature=-crt-static";
  const strip = ["--config", "profile.release.strip='symbols'"];
  run("cargo", ["zigbuild", "--release", "--package", "fovea-node", "--target", triple, ...strip]);
  const directory = join(root, "target", triple.replace(/\.\d+\.\d+$/, ""), "release");
  const library = ["libfovea_node.so", "libfovea_node.dylib", "fovea_node.dll"]
    .map((name) => join(directory, name))
    .find((path) => existsSync(path));
  if (!library) fail(`Expected a library in ${directory} after building for ${triple} but found none.`);
  replace(library, addon);
}

/** Copies a file unless the copy is already equal; a process that has the old one loaded keeps it. */
function replace(from, to) {
  const content = readFileSync(from);
  if (existsSync(to) && readFileSync(to).equals(content)) return;
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, `${to}.new`);
  renameSync(`${to}.new`, to);
}
