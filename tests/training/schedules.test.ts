import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  afterEpoch,
  initialPlateau,
  learningRateAt,
  momentumAt,
  movesMomentum,
} from "../../src/training/learning-rate.js";
import {
  constant,
  cosine,
  inverse,
  multiStep,
  oneCycle,
  plateau,
  polynomial,
  rebased,
  type Schedule,
  step,
  toSchedule,
} from "../../src/training/schedules.js";

const length = { steps: 100, stepsPerEpoch: 10 };

function curve(schedule: Schedule, ...steps: number[]): number[] {
  return steps.map((step) => learningRateAt(schedule, step, length));
}

describe("PyTorch's scheduler has the same rate at every step:", () => {
  const golden = JSON.parse(readFileSync(new URL("../golden/schedules.json", import.meta.url), "utf8"));
  const { steps, stepsPerEpoch, rate } = golden;
  const make: Readonly<Record<string, (options: never) => Schedule>> = {
    step: (options) => step(rate, options),
    "multi-step": (options) => multiStep(rate, options),
    cosine: (options) => cosine(rate, options),
    polynomial: (options) => polynomial(rate, options),
    "one-cycle": (options) => oneCycle(rate, options),
  };
  const title = ({ kind, options }: { kind: string; options: object }) => `${kind} ${JSON.stringify(options)}`;
  const cases: { kind: string; options: object; metrics?: number[]; rates: number[]; momenta?: number[] }[] =
    golden.cases;

  test.each(cases.filter(({ metrics }) => !metrics).map((each) => [title(each), each] as const))(
    "%s",
    (_, { kind, options, rates, momenta }) => {
      const schedule = make[kind]?.(options as never) ?? constant(Number.NaN);
      expect(rates).toHaveLength(steps);
      for (const [index, expected] of rates.entries()) {
        const received = learningRateAt(schedule, index, { steps, stepsPerEpoch });
        expect(Math.abs(received - expected), `step ${index}`).toBeLessThan(1e-12 * rate);
      }
      const moved = (index: number) =>
        movesMomentum(schedule) ? momentumAt(schedule, index, { steps, stepsPerEpoch }) : undefined;
      expect(moved(0) !== undefined).toBe(momenta !== undefined);
      for (const [index, expected] of (momenta ?? []).entries()) expect(moved(index)).toBeCloseTo(expected, 12);
    },
  );

  test.each(cases.filter(({ metrics }) => metrics).map((each) => [title(each), each] as const))(
    "%s",
    (_, { options, metrics = [], rates }) => {
      const schedule = plateau(rate, options);
      let state = initialPlateau;
      for (const [epoch, expected] of rates.entries()) {
        const received = learningRateAt(schedule, epoch * stepsPerEpoch, { steps, stepsPerEpoch }, state);
        expect(Math.abs(received - expected), `epoch ${epoch}`).toBeLessThan(1e-12 * rate);
        state = afterEpoch(schedule, JSON.parse(JSON.stringify(state)), metrics[epoch] ?? Number.NaN);
      }
      expect(state.scale).toBeLessThan(1);
    },
  );
});

test("constant stays", () => {
  expect(curve(constant(0.1), 0, 50, 99)).toEqual([0.1, 0.1, 0.1]);
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

test("polynomial ends at its final rate, one cycle far below its first", () => {
  expect(curve(polynomial(0.1, { power: 2, final: 0.02 }), 50, 100)).toEqual([expect.closeTo(0.04, 12), 0.02]);
  const [first = 0, top, last = 0] = curve(oneCycle(1, { rise: 0.5 }), 0, 49, 99);
  expect([first, top, last]).toEqual([expect.closeTo(0.04, 12), 1, expect.closeTo(4e-6, 12)]);
});

test("one cycle is finite in runs too short for a rise", () => {
  for (const steps of [1, 2, 3, 4, 10]) {
    for (let index = 0; index < steps; index += 1) {
      expect(learningRateAt(oneCycle(1, { rise: 0.1 }), index, { steps, stepsPerEpoch: 1 })).toBeLessThanOrEqual(1);
    }
  }
});

test("a function of the step is asked, and must give a rate", () => {
  const schedule = toSchedule((step, { steps }) => 1 - step / steps);
  expect(curve(schedule, 0, 25)).toEqual([1, 0.75]);
  expect(() =>
    curve(
      toSchedule((step) => 1 / (step - 3)),
      2,
    ),
  ).toThrow("Expected a number of at least 0 from the learning rate's function at step 2 but received -1.");
});

test("a schedule is plain data that survives a file", () => {
  const schedule = step(0.1, { every: 2.5, warmup: 7 });
  const copy: Schedule = JSON.parse(JSON.stringify(schedule));
  expect(curve(copy, 3, 24, 25, 99)).toEqual(curve(schedule, 3, 24, 25, 99));
});

test("a schedule takes another rate and warm-up, where it has one", () => {
  expect(rebased(cosine(0.1), 0.2, 5)).toEqual(cosine(0.2, { warmup: 5 }));
  expect(() => rebased(oneCycle(0.1), 0.1, 5)).toThrow("no warm-up with a one-cycle schedule");
  expect(() => rebased(cosine(0.1, { final: 0.05 }), 0.01, 0)).toThrow("between 0 and 0.01");
});

test.each<[string, () => unknown, string]>([
  ["a rate of NaN", () => constant(Number.NaN), 'Expected a positive number for "learningRate" but received NaN.'],
  ["a rate of 0", () => cosine(0), 'Expected a positive number for "learningRate" but received 0.'],
  ["half a step of warm-up", () => constant(1, { warmup: 0.5 }), 'Expected a number of steps for "warmup"'],
  ["a final rate above the first", () => cosine(0.1, { final: 0.2 }), "between 0 and 0.1"],
  ["steps of no length", () => step(0.1, { every: 0 }), 'a positive number of epochs for "every" but received 0'],
  ["a negative factor", () => step(0.1, { every: 1, factor: -1 }), 'a positive number for "factor" but received -1'],
  ["falling milestones", () => multiStep(0.1, { milestones: [5, 3] }), 'rising numbers of epochs for "milestones"'],
  ["no milestones", () => multiStep(0.1, { milestones: [] }), '"milestones" but received []'],
  ["a cycle without a fall", () => oneCycle(0.1, { rise: 1 }), 'a share between 0 and 1 for "rise" but received 1'],
  ["falling momenta", () => oneCycle(0.1, { momentum: [0.9, 0.8] }), 'for "momentum" but received [0.9, 0.8]'],
  ["a power of 0", () => polynomial(0.1, { power: 0 }), 'a positive number for "power" but received 0'],
  ["a plateau that rises", () => plateau(0.1, { factor: 2 }), 'between 0 and 1 for "factor" but received 2'],
  ["half an epoch of patience", () => plateau(0.1, { patience: 0.5 }), 'a number of epochs for "patience"'],
])("%s is refused", (_, make, message) => {
  expect(make).toThrow(message);
});
