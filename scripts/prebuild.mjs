// Puts the addon of one platform into prebuilds/, as the published package carries it.
//
//   node scripts/prebuild.mjs [--target <triple>[.<glibc version>]] [--if-stale]
//
// --target cross-compiles (see build-addon.mjs); the published Linux binaries ask for glibc 2.17.
// --if-stale does nothing when the file is newer than every Rust source, as npm pack wants it.

import { existsSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { root, runNode } from "./command.mjs";

const { values } = parseArgs({ options: { target: { type: "string" }, "if-stale": { type: "boolean" } } });
const { target } = values;
const [arch, platform, libc] = target ? describe(target) : [process.arch, process.platform, hostLibc()];
const isLinux = platform === "linux";

const file = join(root, "prebuilds", `${platform}-${arch}`, isLinux ? `fovea.${libc}.node` : "fovea.node");
if (!values["if-stale"] || !isFresh(file)) await prebuild();

/** Builds in a folder of its own, so that build/Release stays the checkout's; prebuildify strips, names and places. */
async function prebuild() {
  const folder = join(root, "build", "prebuild");
  const output = ["--output", join(folder, "build", "Release")];
  runNode("scripts/build-addon.mjs", target ? [...output, "--target", target] : output);
  const prebuildify = promisify(createRequire(import.meta.url)("prebuildify"));
  await prebuildify({
    targets: [process.versions.node],
    napi: true,
    name: "fovea",
    arch,
    platform,
    libc,
    tagLibc: isLinux,
    strip: !target,
    cwd: folder,
    out: root,
    // A command that does nothing: cargo has built already, and needs neither Python nor Node's headers.
    nodeGyp: process.platform === "win32" ? "rem" : "true",
  });
}

/** Node's names for what a Rust target triple says. */
function describe(triple) {
  const arch = triple.startsWith("aarch64-") ? "arm64" : "x64";
  const platform = triple.includes("-windows") ? "win32" : triple.includes("-apple") ? "darwin" : "linux";
  return [arch, platform, triple.includes("-musl") ? "musl" : "glibc"];
}

function hostLibc() {
  return existsSync("/etc/alpine-release") ? "musl" : "glibc";
}

/** Whether the file is newer than everything it is made from. */
function isFresh(path) {
  if (!existsSync(path)) return false;
  const sources = readdirSync(join(root, "crates"), { recursive: true }).map((name) => join(root, "crates", name));
  const newest = [...sources, join(root, "Cargo.toml"), join(root, "Cargo.lock")].map((name) => statSync(name).mtimeMs);
  return statSync(path).mtimeMs > Math.max(...newest);
}
