import { monitorEventLoopDelay } from "node:perf_hooks";
import { expect, test } from "vitest";
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
