// Holds the addon to what a long life asks of it; endurance.test.ts runs it briefly, this in full:
//
//   node tests/native/endurance.mjs --steps 10000 --workers 8 --rounds 50
//
// Trains a small network so many steps and prints how far the memory has grown since a tenth of them; then starts so many
// worker threads at a time, each of which loads the addon, trains and ends, so many times over, and prints the growth
// since the first round. JSON, in megabytes.

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { Dataset, Session } = createRequire(import.meta.url)("node-gyp-build")(root);

const node = (name, input, rest) => ({ name, inputs: [input], ...rest });
const conv = { op: "conv", stride: [1, 1], padding: "same", dilation: [1, 1], groups: 1, bias: false, init: "kaiming" };
const graph = JSON.stringify({
  name: "small",
  input: [8, 8, 1],
  nodes: [
    node("conv", "input", { ...conv, filters: 4, kernel: [3, 3] }),
    node("bn", "conv", { op: "batchNorm", epsilon: 1e-5, momentum: 0.1 }),
    node("relu", "bn", { op: "relu" }),
    node("flat", "relu", { op: "flatten" }),
    node("fc", "flat", { op: "dense", units: 3, bias: true, init: "kaiming" }),
  ],
  outputs: [{ node: "fc", lossWeight: 1, loss: { kind: "crossEntropy" } }],
});
const images = Uint8Array.from({ length: 96 * 64 }, (_, index) => (index * 37) % 251);
const labels = Uint32Array.from({ length: 96 }, (_, image) => image % 3);
const data = Dataset.fromArrays(images, [96, 8, 8, 1], labels);
const optimizer = { kind: "adamw", weightDecay: 0.01, labelSmoothing: 0 };

/** Steps of data sets and of a loop of one's own, with everything that training may keep. */
async function train(session, firstStep, count) {
  const learningRates = new Float64Array(count).fill(0.001);
  const update = { accumulate: 2, ema: 0.99, clipNorm: 1 };
  const order = { shuffle: true, dropLast: false, seed: 1 };
  await session.trainSteps(data, { batchSize: 32, firstStep, learningRates, optimizer, ...order, ...update });
  const batch = [images.subarray(0, 64 * 8), labels.subarray(0, 8)];
  return session.trainBatch(...batch, { learningRate: 0.001, optimizer, ...update });
}

const megabytes = () => {
  globalThis.gc?.();
  return process.memoryUsage().rss / 2 ** 20;
};

async function growthOverSteps(steps) {
  const session = new Session({ graph, seed: 1, threads: 2 });
  const chunk = Math.ceil(steps / 100);
  let before = 0;
  for (let done = 0; done < steps; done += chunk) {
    if (done >= steps / 10 && before === 0) before = megabytes();
    await train(session, done, chunk);
    await session.evaluate(data, 32, { averaged: true });
  }
  const growth = megabytes() - before;
  await session.close();
  return growth;
}

function workerEnds() {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: "train" });
  return new Promise((resolve, reject) => {
    let loss;
    worker.on("message", (message) => {
      loss = message;
    });
    worker.on("error", reject);
    worker.on("exit", (code) => (code === 0 ? resolve(loss) : reject(new Error(`a worker ended with ${code}`))));
  });
}

async function growthOverRounds(workers, rounds) {
  const losses = new Set();
  let before = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const loss of await Promise.all(Array.from({ length: workers }, workerEnds))) losses.add(loss);
    if (round === Math.floor(rounds / 5)) before = megabytes();
  }
  if (losses.size !== 1) throw new Error(`workers trained to ${losses.size} different losses`);
  return megabytes() - before;
}

if (isMainThread) {
  const number = { type: "string" };
  const { values } = parseArgs({ options: { steps: number, workers: number, rounds: number } });
  const growth = { steps: await growthOverSteps(Number(values.steps ?? 10_000)) };
  growth.workers = await growthOverRounds(Number(values.workers ?? 8), Number(values.rounds ?? 50));
  console.log(JSON.stringify(growth));
} else if (workerData === "train") {
  const session = new Session({ graph, seed: 1, threads: 2 });
  parentPort.postMessage((await train(session, 0, 10)).loss);
  await session.close();
}
