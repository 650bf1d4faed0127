import { expect, expectTypeOf, test } from "vitest";
import { summarize } from "../../src/report/summary.js";
import { lenet5 } from "../../src/zoo/index.js";

test("lenet5 has the layers, parameters and mult-adds of the literature", () => {
  const summary = summarize(lenet5().definition);
  expect(summary).toMatchObject({
    name: "lenet5",
    input: [28, 28, 1],
    classes: 10,
    parameters: 61_706,
    trainableParameters: 61_706,
    multAdds: 416_520,
  });
  const weighted = summary.layers.filter((layer) => layer.parameters > 0);
  expect(weighted.map(({ name, output, parameters, multAdds }) => [name, output, parameters, multAdds])).toEqual([
    ["conv1", [28, 28, 6], 156, 117_600],
    ["conv2", [10, 10, 16], 2_416, 240_000],
    ["fc1", [120], 48_120, 48_000],
    ["fc2", [84], 10_164, 10_080],
    ["fc3", [10], 850, 840],
  ]);
});

test("lenet5 takes another input size and another number of classes, as types too", () => {
  const plain = lenet5();
  expectTypeOf(plain.inputShape).toEqualTypeOf<readonly [28, 28, 1]>();
  expectTypeOf(plain.outputSize).toEqualTypeOf<10>();
  const colour = lenet5({ input: [32, 32, 3], classes: 100, seed: 7 });
  expectTypeOf(colour.inputShape).toEqualTypeOf<readonly [32, 32, 3]>();
  expectTypeOf(colour.outputSize).toEqualTypeOf<100>();
  expect([colour.inputShape, colour.outputSize]).toEqual([[32, 32, 3], 100]);
  expect(lenet5({ input: [12, 12, 1] }).outputSize).toBe(10);
});

test.each([
  [8, "conv2", "a window of at most 4", "a kernel of 5 (input [4, 4, 6])"],
  [10, "maxPool2", "a window of at most 1", "a size of 2 (input [1, 1, 16])"],
  [1, "maxPool1", "a window of at most 1", "a size of 2 (input [1, 1, 6])"],
])("lenet5 of %d x %d says that %s no longer fits", (side, layer, expected, received) => {
  expect(() => lenet5({ input: [side, side, 1] })).toThrow(
    expect.objectContaining({
      code: "INVALID_SHAPE",
      message: `Expected ${expected} for "${layer}" but received ${received}.`,
    }),
  );
});
