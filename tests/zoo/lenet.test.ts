import { expect, expectTypeOf, test } from "vitest";
import { summarize } from "../../src/report/summary.js";
import { lenet5, lenet51998 } from "../../src/zoo/index.js";

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
  [8, "conv2", "a kernel within the padded input of 4x4", "5x5 (input [4, 4, 6])"],
  [10, "maxPool2", "a window within the padded input of 1x1", "2x2 (input [1, 1, 16])"],
  [1, "maxPool1", "a window within the padded input of 1x1", "2x2 (input [1, 1, 6])"],
])("lenet5 of %d pixels a side says that its %s no longer fits", (side, layer, expected, received) => {
  expect(() => lenet5({ input: [side, side, 1] })).toThrow(
    expect.objectContaining({
      code: "INVALID_SHAPE",
      message: `Expected ${expected} for "${layer}" but received ${received}.`,
    }),
  );
});

test("lenet5-1998 has the layers and parameters of the paper, to the connection", () => {
  const { definition } = lenet51998();
  const summary = summarize(definition);
  expect(summary).toMatchObject({ input: [32, 32, 1], classes: 10, parameters: 60_000, trainableParameters: 60_000 });
  const weighted = summary.layers.filter((layer) => layer.parameters > 0);
  expect(weighted.map(({ name, output, parameters }) => [name, output, parameters])).toEqual([
    ["c1", [28, 28, 6], 156],
    ["s2", [14, 14, 6], 12],
    ["c3", [10, 10, 16], 1_516],
    ["s4", [5, 5, 16], 32],
    ["c5", [1, 1, 120], 48_120],
    ["f6", [84], 10_164],
  ]);
  // The paper: "122,304", "5,880", "151,600" and "2,000" connections, biases included.
  const multAdds = Object.fromEntries(summary.layers.map((layer) => [layer.name, layer.multAdds]));
  expect([multAdds["c1"], multAdds["c3"]]).toEqual([122_304 - 28 * 28 * 6, 151_600 - 10 * 10 * 16]);
  expect(definition.outputs).toEqual([
    { node: "output", lossWeight: 1, loss: { kind: "maximumAPosteriori", rejection: 0.1 } },
  ]);
});

/** The node of a network that has what is asked for. */
function codesOf(classes: number): readonly (readonly number[])[] {
  const node = lenet51998({ classes }).definition.nodes.at(-1);
  return node?.op === "radialBasis" ? node.codes : [];
}

test("lenet5-1998's codes are 7x12 images of 1 and -1 that are far from each other, for any number of classes", () => {
  for (const classes of [3, 10, 40]) {
    const codes = codesOf(classes);
    expect(codes).toHaveLength(classes);
    expect(codes.every((code) => code.length === 84 && code.every((value) => Math.abs(value) === 1))).toBe(true);
    const distances = codes.flatMap((one, at) =>
      codes.slice(0, at).map((other) => one.filter((value, pixel) => value !== other[pixel]).length),
    );
    expect(Math.min(...distances)).toBeGreaterThan(10);
  }
  const one = codesOf(10)[1]
    ?.map((value) => (value > 0 ? "#" : "."))
    .join("");
  expect(one?.slice(7, 28)).toBe("...#...".concat("..##...", ".#.#..."));
});

test("lenet5-1998 frames smaller images with zeros, as many on one side as on the other", () => {
  const frames = (side: number) =>
    lenet51998({ input: [side, side, 1] }).definition.nodes.filter(({ op }) => op === "pad");
  expect(frames(32)).toEqual([]);
  expect(frames(28)).toMatchObject([{ inputs: ["input"], padding: [2, 2, 2, 2], channels: [0, 0] }]);
  expect(frames(27)).toMatchObject([{ padding: [2, 3, 3, 2] }]);
  expect(lenet51998({ input: [48, 40, 3], classes: 26 }).outputSize).toBe(26);
});
