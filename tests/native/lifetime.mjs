// What lifetime.test.ts runs in processes and worker threads: trains with the bare addon, and ends in the way it is told.

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, workerData } from "node:worker_threads";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { Dataset, Session } = createRequire(import.meta.url)("node-gyp-build")(root);
const { graph, ending } = isMainThread ? JSON.parse(process.env.LIFETIME ?? "{}") : workerData;

const data = Dataset.fromArrays(new Uint8Array(640 * 784).fill(9), [640, 28, 28, 1], new Uint32Array(640).fill(3));
const start = (count) => {
  const session = new Session({ graph, seed: 1, threads: 2 });
  const training = session.trainSteps(data, {
    batchSize: 64,
    firstStep: 0,
    learningRates: new Float64Array(count).fill(0.001),
    optimizer: { kind: "sgd", momentum: 0.9, nesterov: false, weightDecay: 0, labelSmoothing: 0 },
    shuffle: true,
    dropLast: false,
    seed: 1,
  });
  return { session, training };
};
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const forever = 10_000_000;

const endings = {
  /** Everything in order. */
  async close() {
    const { session, training } = start(20);
    const { losses } = await training;
    await session.close();
    parentPort?.postMessage(Array.from(losses));
  },
  /** The event loop ends and nobody closed the session. */
  async leave() {
    await start(20).training;
  },
  /** The process, or worker, exits in the middle of a step. */
  async exit() {
    start(forever);
    await pause(50);
    process.exit(0);
  },
  /** The process exits while it measures for ten minutes. */
  async measure() {
    const session = new Session({ graph, seed: 1, threads: 2 });
    session.benchmark("train", 64, 600);
    await pause(50);
    process.exit(0);
  },
  /** Whoever started this worker terminates it. */
  async wait() {
    start(forever);
    await pause(50);
    parentPort?.postMessage("training");
    await pause(60_000);
  },
  /** Nothing refers to a session any more while it trains. */
  async collect() {
    for (let round = 0; round < 5; round += 1) {
      start(forever);
      await pause(5);
      globalThis.gc();
    }
    await pause(50);
    globalThis.gc();
    process.exit(0);
  },
  /** An error that nobody catches, in the middle of a step. */
  async throw() {
    start(forever);
    await pause(50);
    throw new Error("thrown on purpose");
  },
};
await endings[ending]();
