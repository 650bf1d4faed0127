import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { startProgram } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { appendTo, fakeParty, isRunning, linesOf } from "./fake-party.js";

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const root = join(import.meta.dirname, "../..");

/** Starts the benchmark as `npm run bench` does. */
function bench(...args: string[]) {
  return startProgram(process.execPath, ["--import", "tsx", "bench/main.ts", ...args], root);
}

/** A Python for the peers that does what it is told with each request instead. */
function python(name: string, onRequest: string): string {
  const [, source] = fakeParty(name, onRequest).args;
  writeFileSync(path(name), `#!${process.execPath}\n${source}`);
  chmodSync(path(name), 0o755);
  return path(name);
}

const quick = ["--quick", "--networks", "lenet5", "--modes", "single"];

test("without the peers it measures fovea and says in one note how to install them", async () => {
  const files = { json: path("r.json"), markdown: path("r.md"), svg: path("r.svg") };
  const written = Object.entries(files).flatMap(([option, file]) => [`--${option}`, file]);
  const { exitCode, stdout, stderr } = await bench(...quick, "--python", path("none"), ...written).outcome;
  expect(stderr.match(/note: /g)).toHaveLength(1);
  expect(stderr).toContain("pip install -r bench/requirements.txt");
  expect(stdout).toMatch(/FMA peak [\d,]+ GFLOP\/s[\s\S]*lenet5 \(1\) +inference, one image +\d+\.\d/);
  expect(exitCode).toBe(0);
  const report = JSON.parse(readFileSync(files.json, "utf8"));
  expect(report.cases).toMatchObject([{ network: "lenet5", mode: "single", batch: 1, peers: [] }]);
  expect(report.cases[0].ours.milliseconds.median).toBeGreaterThan(0);
  expect(report.cases[0].percentOfPeak).toBeGreaterThan(0);
  expect(readFileSync(files.markdown, "utf8")).toContain("| lenet5 (1) |");
  expect(readFileSync(files.svg, "utf8")).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
});

test("with peers it prints how many times as long they take", async () => {
  const answering = python("answering", "reply(times(100))");
  const { exitCode, stdout } = await bench(...quick, "--python", answering).outcome;
  expect(stdout).toMatch(/PyTorch ms +ratio +onnxruntime ms +ratio/);
  expect(exitCode).toBe(0);
});

test("a peer that dies is told, and the exit code is 1", async () => {
  const dying = python("dying", 'console.error("out of memory"); process.exit(1)');
  const { exitCode, stdout, stderr } = await bench(...quick, "--python", dying, "--peers", "PyTorch").outcome;
  expect(stderr).toMatch(/error: lenet5 \(1\), inference, one image: .*PyTorch.*out of memory/);
  expect(stdout).toContain("lenet5 (1)");
  expect(exitCode).toBe(1);
});

test.each([
  ["a network", ["--networks", "lenet6"], /--networks.*lenet5, alexnet-torchvision.*received "lenet6"/],
  ["a mode", ["--modes", "train,dream"], /--modes.*train, infer, single.*received "dream"/],
  ["a number of rounds", ["--rounds", "0"], /--rounds.*positive whole number.*"0"/],
])("%s that is none is refused", async (_, args, message) => {
  const { exitCode, stdout, stderr } = await bench(...args).outcome;
  expect(stderr).toMatch(message);
  expect(stdout).toBe("");
  expect(exitCode).not.toBe(0);
});

describe("no process is left", () => {
  test.each(["SIGINT", "SIGTERM"] as const)("after %s in the middle of a slice", async (signal) => {
    const log = path(`pids-${signal}`);
    writeFileSync(log, "");
    const slow = python(`slow-${signal}`, `${appendTo(log, "process.pid")} setInterval(() => {}, 1000);`);
    const { child, outcome } = bench(...quick, "--python", slow, "--peers", "PyTorch");
    await expect.poll(() => linesOf(log).join(""), { timeout: 30_000 }).not.toBe("");
    const [pid] = linesOf(log).map(Number);
    expect(isRunning(pid ?? 0)).toBe(true);
    child.kill(signal);
    expect((await outcome).exitCode).toBe(signal === "SIGINT" ? 130 : 143);
    await expect.poll(() => isRunning(pid ?? 0)).toBe(false);
  });
});
