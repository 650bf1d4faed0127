import { expect, test } from "vitest";
import { sgd } from "../../src/training/optimizers.js";
import { constant, cosine, inverse, learningRateAt, type Schedule, step } from "../../src/training/schedules.js";

const length = { steps: 100, stepsPerEpoch: 10 };

function curve(schedule: Schedule, ...steps: number[]): number[] {
  return steps.map((step) => learningRateAt(schedule, step, length));
}

test("constant stays", () => {
  expect(curve(constant(0.1), 0, 50, 99)).toEqual([0.1, 0.1, 0.1]);
});

test("cosine falls from the rate through its half to the final rate, as PyTorch's CosineAnnealingLR", () => {
  // CosineAnnealingLR(SGD(lr=0.1), T_max=100): after 0, 25, 50 and 75 steps.
  const [start, quarter, half, threeQuarters] = curve(cosine(0.1), 0, 25, 50, 75);
  expect(start).toBeCloseTo(0.1, 12);
  expect(quarter).toBeCloseTo(0.08535533905932738, 12);
  expect(half).toBeCloseTo(0.05, 12);
  expect(threeQuarters).toBeCloseTo(0.01464466094067263, 12);
  expect(curve(cosine(0.1, { final: 0.02 }), 100)[0]).toBeCloseTo(0.02, 12);
});

test("step multiplies after every so many epochs", () => {
  const rates = curve(step(0.1, { every: 3, factor: 0.5 }), 0, 29, 30, 59, 60, 99);
  expect(rates).toEqual([0.1, 0.1, 0.05, 0.05, 0.025, 0.0125]);
});

test("warm-up rises linearly and ends at the rate, and a cosine begins after it", () => {
  expect(curve(constant(0.1, { warmup: 4 }), 0, 1, 2, 3, 4)).toEqual([0.025, 0.05, 0.1 * 0.75, 0.1, 0.1]);
  expect(curve(cosine(0.1, { warmup: 20 }), 20, 60)).toEqual([0.1, expect.closeTo(0.05, 12)]);
});

test("an inverse rate is halved after one over its decay, however long the run is", () => {
  expect(curve(inverse(0.1, { decay: 0.01 }), 0, 100, 200, 900)).toEqual([0.1, 0.05, 0.1 / 3, 0.01]);
  expect(curve(inverse(0.1, { decay: 0.01, warmup: 2 }), 0, 2, 102)).toEqual([0.05, 0.1, 0.05]);
  expect(() => inverse(0.1, { decay: 0 })).toThrow(/decay/);
});

test("a schedule is plain data that survives a file", () => {
  const schedule = step(0.1, { every: 2.5, warmup: 7 });
  const copy: Schedule = JSON.parse(JSON.stringify(schedule));
  expect(curve(copy, 3, 24, 25, 99)).toEqual(curve(schedule, 3, 24, 25, 99));
});

test.each<[string, () => unknown, string]>([
  ["a rate of NaN", () => constant(Number.NaN), 'Expected a positive number for "learningRate" but received NaN.'],
  ["a rate of 0", () => cosine(0), 'Expected a positive number for "learningRate" but received 0.'],
  ["half a step of warm-up", () => constant(1, { warmup: 0.5 }), 'Expected a number of steps for "warmup"'],
  ["a final rate above the first", () => cosine(0.1, { final: 0.2 }), "between 0 and 0.1"],
  ["steps of no length", () => step(0.1, { every: 0 }), 'a positive number of epochs for "every" but received 0'],
  ["a negative factor", () => step(0.1, { every: 1, factor: -1 }), 'a positive number for "factor" but received -1'],
  ["a momentum of 1", () => sgd({ momentum: 1 }), 'from 0 to below 1 for "momentum" but received 1'],
  ["a negative weight decay", () => sgd({ weightDecay: -1 }), 'of at least 0 for "weightDecay" but received -1'],
])("%s is refused", (_, make, message) => {
  expect(make).toThrow(message);
});
