import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { expect, test } from "vitest";
import { Dataset, OnnxModel, Session } from "../../src/native.js";
import { alexnet } from "../../src/zoo/alexnet.js";
import { lenet5 } from "../../src/zoo/lenet.js";
import { resnet18 } from "../../src/zoo/resnet.js";
import { temporaryDirectory } from "../support/directory.js";
import { digits, lenet, steps } from "./support.js";

const directory = temporaryDirectory();

test("training leaves the event loop free", async () => {
  const [session, data] = [lenet(), digits(6400)];
  await session.trainSteps(data, steps(10));
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const { seconds } = await session.trainSteps(data, steps(500));
  delay.disable();
  expect(seconds).toBeGreaterThan(0.1);
  expect(delay.count).toBeGreaterThan(50);
  expect(delay.percentile(99) / 1e6).toBeLessThan(20);
  await session.close();
});

test("training ResNet-18 on 224 x 224 leaves the event loop free, step after step", async ({ annotate }) => {
  const { session } = resnet18();
  const images = new Uint8Array(8 * 224 * 224 * 3).fill(7);
  const data = Dataset.fromArrays(images, [8, 224, 224, 3], new Uint32Array(8));
  const run = { batchSize: 4, learningRates: new Float64Array([1e-3]) };
  await session.trainSteps(data, steps(1, run));
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const began = performance.now();
  let step = 1;
  // One crossing a step: as often as training from JavaScript can ask for anything.
  for (; step < 4 || performance.now() - began < 1000; step += 1) {
    await session.trainSteps(data, steps(1, { ...run, firstStep: step }));
  }
  delay.disable();
  const milliseconds = delay.percentile(99) / 1e6;
  await annotate(`99 of 100 delays are at most ${milliseconds.toFixed(1)} ms`);
  expect(delay.count).toBeGreaterThan(100);
  expect(milliseconds).toBeLessThan(20);
  await session.close();
}, 120_000);

test("what a session is made of is known at once, while its weights are still drawn", async () => {
  const options = { graph: JSON.stringify(alexnet().definition), seed: 1, threads: 1 };
  // The first one loads the addon.
  await new Session(options).close();
  const began = performance.now();
  const session = new Session(options);
  const facts = [session.threads, session.outputSize, session.parameters().length, typeof session.isa];
  const known = performance.now() - began;
  await session.saveWeights(join(directory, "weights"));
  const drawn = performance.now() - began;
  expect(facts).toEqual([1, 1000, 16, "string"]);
  // 61 million numbers are drawn meanwhile.
  expect(known).toBeLessThan(drawn / 5);
  await session.close();
});

test("arrays in ONNX's order are laid out anew beside the event loop", async () => {
  const path = join(directory, "lenet5.onnx");
  const lenet = lenet5();
  await lenet.save(path);
  await lenet.close();
  const onnx = await OnnxModel.read(path);
  const values = new Float32Array(40_000 * 784);
  let turns = 0;
  const timer = setInterval(() => {
    turns += 1;
  }, 1);
  for (const lay of [() => onnx.toImages(values), () => onnx.toOutputs(values)]) {
    turns = 0;
    expect(await lay()).toHaveLength(values.length);
    expect(turns).toBeGreaterThan(1);
  }
  clearInterval(timer);
});
