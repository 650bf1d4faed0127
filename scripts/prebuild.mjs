// Puts the addon of one platform into prebuilds/, as the published package carries it.
//
//   node scripts/prebuild.mjs [--target <triple>[.<glibc version>]] [--if-stale]
//
// --target builds through cargo-zigbuild (see build-addon.mjs); the published Linux binaries ask for glibc 2.17.
// --if-stale does nothing when the file is newer than every Rust source, as npm pack wants it.

import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { root } from "./command.mjs";

const { values } = parseArgs({ options: { target: { type: "string" }, "if-stale": { type: "boolean" } } });
const [arch, platform, libc] = values.target ? describe(values.target) : [process.arch, process.platform, hostLibc()];

const tag = platform === "linux" ? `.${libc}` : "";
const file = join(root, "prebuilds", `${platform}-${arch}`, `fovea${tag}.node`);
if (!values["if-stale"] || !isFresh(file)) await prebuild();

/** Lets prebuildify build, strip and name the file; a folder of its own keeps build/Release for the checkout. */
async function prebuild() {
  const folder = join(root, "build", "prebuild");
  mkdirSync(folder, { recursive: true });
  if (values.target) process.env.FOVEA_TARGET = values.target;
  const windows = process.platform === "win32";
  const builder = join(root, "scripts", "build-addon.mjs");
  await promisify(createRequire(import.meta.url)("prebuildify"))({
    targets: [process.versions.node],
    napi: true,
    name: "fovea",
    arch,
    platform,
    libc,
    tagLibc: platform === "linux",
    strip: platform === process.platform && arch === process.arch,
    cwd: folder,
    out: root,
    nodeGyp: windows ? `"${process.execPath}" "${builder}"` : builder,
  });
}

/** Node's names for what a Rust target triple says. */
function describe(triple) {
  const [cpu] = triple.split("-");
  const platform = triple.includes("-windows") ? "win32" : triple.includes("-apple") ? "darwin" : "linux";
  return [cpu === "aarch64" ? "arm64" : "x64", platform, triple.includes("-musl") ? "musl" : "glibc"];
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
