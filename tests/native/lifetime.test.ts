import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { AbortHandle } from "../../src/native.js";
import { digits, graph, lenet, steps } from "./support.js";

const program = fileURLToPath(new URL("lifetime.mjs", import.meta.url));

/** How a process of its own ends: its exit code, or the signal that killed it. */
async function processEnding(ending: string): Promise<number | string | null> {
  const child = spawn(process.execPath, ["--expose-gc", program], {
    env: { ...process.env, LIFETIME: JSON.stringify({ graph, ending }) },
    stdio: "ignore",
  });
  return new Promise((resolve) => child.on("exit", (code, signal) => resolve(signal ?? code)));
}

/** A worker thread's messages and exit code; `onMessage` may end it. */
async function workerEnding(ending: string, onMessage?: (worker: Worker) => void): Promise<[unknown[], number]> {
  const worker = new Worker(program, { workerData: { graph, ending } });
  const messages: unknown[] = [];
  worker.on("message", (message) => {
    messages.push(message);
    onMessage?.(worker);
  });
  return new Promise((resolve, reject) => {
    worker.on("error", reject);
    worker.on("exit", (code) => resolve([messages, code]));
  });
}

describe("a process", () => {
  test.each([
    ["close", 0],
    ["leave", 0],
    ["exit", 0],
    ["measure", 0],
    ["collect", 0],
    ["throw", 1],
  ])("that trains and ends by %s has the exit code %i", async (ending, code) => {
    expect(await processEnding(ending)).toBe(code);
  });
});

describe("worker threads", () => {
  test("load the addon, train and end again and again, with the same result", async () => {
    const results: unknown[] = [];
    for (let round = 0; round < 5; round += 1) results.push((await workerEnding("close"))[0][0]);
    expect(results[0]).toHaveLength(20);
    expect(new Set(results.map((losses) => JSON.stringify(losses))).size).toBe(1);
  });

  test("that leave a session open end like any other", async () => {
    for (let round = 0; round < 3; round += 1) expect((await workerEnding("leave"))[1]).toBe(0);
  });

  test("that exit or are terminated in the middle of a step harm nobody", async () => {
    const [session, data] = [lenet(), digits(640)];
    const handle = new AbortHandle();
    const training = session.trainSteps(data, steps(1_000_000), handle);
    for (let round = 0; round < 3; round += 1) {
      expect((await workerEnding("exit"))[1]).toBe(0);
      expect(await workerEnding("wait", (worker) => worker.terminate())).toEqual([["training"], 1]);
    }
    handle.abort();
    expect((await training).losses.every(Number.isFinite)).toBe(true);
    await session.close();
  });
});

test("eight sessions train at a time, each as if it were alone", async () => {
  const data = digits(640);
  const alone = lenet();
  const { losses } = await alone.trainSteps(data, steps(20));
  const sessions = Array.from({ length: 8 }, () => lenet());
  const results = await Promise.all(sessions.map((session) => session.trainSteps(data, steps(20))));
  for (const result of results) expect(result.losses).toEqual(losses);
  await Promise.all([alone, ...sessions].map((session) => session.close()));
});
