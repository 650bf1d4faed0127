import { monitorEventLoopDelay } from "node:perf_hooks";
import { expect, test } from "vitest";
import { Dataset } from "../../src/native.js";
import { resnet18 } from "../../src/zoo/resnet.js";
import { digits, lenet, steps } from "./support.js";

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
