#!/usr/bin/env node
// Builds the native addon and writes it to build/Release/fovea.node in the current folder, where node-gyp-build looks
// first. prebuildify starts this file, too, in place of node-gyp: Node-API needs neither Python nor Node's headers.
//
// FOVEA_TARGET=<triple>[.<glibc version>] cross-compiles with cargo-zigbuild, for example x86_64-unknown-linux-gnu.2.17.

import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { fail, requireCargo, root, run, runNode } from "./command.mjs";

const target = process.env.FOVEA_TARGET;

requireCargo();
if (target) crossCompile(target);
else compile();

/** Builds for this machine; napi also writes the addon's declarations. */
function compile() {
  const output = join(root, "build", "napi");
  const options = ["build", "--release", "--manifest-path", "crates/node/Cargo.toml", "--output-dir", "build/napi"];
  runNode("node_modules/@napi-rs/cli/dist/cli.js", [...options, "--no-js", "--dts", "index.d.ts"]);
  replace(join(output, "index.d.ts"), join(root, "index.d.ts"));
  replace(join(output, "fovea.node"), join("build", "Release", "fovea.node"));
}

/** Builds for another machine, or for an older C library than this machine has. */
function crossCompile(triple) {
  run("cargo", ["zigbuild", "--release", "--package", "fovea-node", "--target", triple]);
  const directory = join(root, "target", triple.replace(/\.\d+\.\d+$/, ""), "release");
  const library = ["libfovea_node.so", "libfovea_node.dylib", "fovea_node.dll"]
    .map((name) => join(directory, name))
    .find((path) => existsSync(path));
  if (!library) fail(`Expected a library in ${directory} after building for ${triple} but found none.`);
  replace(library, join("build", "Release", "fovea.node"));
}

/** Copies a file unless the copy is already equal; a process that has the old one loaded keeps it. */
function replace(from, to) {
  const content = readFileSync(from);
  if (existsSync(to) && readFileSync(to).equals(content)) return;
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, `${to}.new`);
  renameSync(`${to}.new`, to);
}
