import { expect, test } from "vitest";
import { ratios, spread } from "../../bench/statistics.js";

test("the spread of an odd number of values has one of them in the middle, of an even number the mean of two", () => {
  expect(spread([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
  expect(spread([10, 1, 4, 2])).toEqual({ median: 3, min: 1, max: 10 });
  expect(spread([5])).toEqual({ median: 5, min: 5, max: 5 });
});

test("nothing has no spread", () => {
  expect(() => spread([])).toThrow("Expected at least one measurement but received none.");
});

test("ratios are taken within a round, so that a slow moment of the machine cancels out", () => {
  expect(ratios([1, 10, 1], [2, 20, 3])).toEqual({ median: 2, min: 2, max: 3 });
  expect(() => ratios([1, 2], [1])).toThrow("Expected 2 rounds of the peer but received 1.");
});
