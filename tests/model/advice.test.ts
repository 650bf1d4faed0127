import { expect, test } from "vitest";
import { concat } from "../../src/model/concat.js";
import { type FeatureMap, input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import { summarize } from "../../src/report/summary.js";

type Map = FeatureMap<number, number, number>;

/** The advice on a network, as `layer rule message` triples. */
function advice(side: number, build: (x: Map) => Map) {
  const { advice } = summarize(model(input(side, side, 3), build).definition);
  return advice.map(({ layer, rule, message }) => [layer, rule, message]);
}

test("a network of usual proportions needs no advice", () => {
  const build = (x: Map) =>
    x
      .conv(8, 3, { padding: "same" })
      .maxPool(2)
      .conv(8, 5, { padding: 2 })
      .maxPool(3, { stride: 2, padding: 1 })
      .conv(8, 1);
  expect(advice(32, build)).toEqual([]);
});

test("an input side should be divisible by 2 as often as the network halves it", () => {
  const build = (x: Map) => x.maxPool(2).maxPool(2, { padding: 1 });
  expect(advice(30, build)).toEqual([
    [
      "input",
      "input-divisible-by-2",
      "The input side 30 can be halved once without a remainder, but the network shrinks it 4-fold: choose 28 or 32.",
    ],
  ]);
  expect(advice(32, build)).toEqual([]);
  expect(advice(3, (x) => x.maxPool(2, { padding: 1 }).maxPool(2))[0]?.[2]).toContain("0 times");
  expect(advice(3, (x) => x.maxPool(2, { padding: 1 }).maxPool(2))[0]?.[2]).toContain("choose 4.");
});

test("what enlarges takes halvings back, and no pixel is left out by it", () => {
  expect(advice(6, (x) => x.maxPool(2).upsample(2).maxPool(2))).toEqual([]);
  expect(advice(6, (x) => x.maxPool(2).convTranspose(4, 3, { stride: 2, padding: 1 }))).toEqual([]);
});

test("large kernels are better stacked from small ones, and even ones made odd", () => {
  expect(advice(16, (x) => x.conv(8, 7, { padding: 3 }))).toEqual([
    ["conv1", "small-kernel", '"conv1" has a kernel of 7x7: 3 convolutions of 3x3 see as far.'],
  ]);
  expect(advice(16, (x) => x.conv(8, 4, { padding: "same" }))).toEqual([
    ["conv1", "small-kernel", '"conv1" has a kernel of 4x4, which has no centre: choose 5x5.'],
  ]);
});

test("a convolution should keep height and width, by stride 1 and padding", () => {
  expect(advice(16, (x) => x.conv(8, 3, { stride: 2, padding: 1 }))).toEqual([
    [
      "conv1",
      "convolution-stride",
      '"conv1" goes from 16x16 to 8x8 by its stride of 2x2: choose stride 1, and a max-pooling of 2x2 after it for each halving.',
    ],
  ]);
  expect(advice(14, (x) => x.conv(16, 5))).toEqual([
    [
      "conv1",
      "convolution-keeps-size",
      '"conv1" goes from 14x14 to 10x10: padding "same", which is 4 more rows and 4 more columns of zeros for its kernel of 5x5, keeps 14x14.',
    ],
  ]);
});

test("a stride should reach the last pixel", () => {
  expect(advice(224, (x) => x.conv(96, 11, { stride: 4 })).at(-1)).toEqual([
    "conv1",
    "window-fits-evenly",
    '"conv1" leaves out the last 1 of 224 rows, as its stride of 4 does not divide 213: choose padding "same", or an input side smaller by 1.',
  ]);
  expect(advice(7, (x) => x.conv(8, 3, { padding: 1 }).maxPool(2))).toContainEqual([
    "maxPool1",
    "window-fits-evenly",
    '"maxPool1" leaves out the last 1 of 7 rows, as its stride of 2 does not divide 5: choose ceilMode, or an input side smaller by 1.',
  ]);
  // One row of padding is left out here, and no pixel.
  expect(advice(224, (x) => x.conv(64, 3, { stride: 2, padding: 1 })).map(([, rule]) => rule)).toEqual([
    "convolution-stride",
  ]);
});

test("max-pooling should take 2x2 or 3x3 with stride 2", () => {
  expect(advice(16, (x) => x.maxPool(4))).toEqual([
    [
      "maxPool1",
      "pooling-window",
      '"maxPool1" takes windows of 4x4 with stride 4x4: choose 2x2 or 3x3 with stride 2x2.',
    ],
  ]);
  expect(advice(16, (x) => x.avgPool(4))).toEqual([]);
});

test("what skips pixels on purpose, keeps the size or takes any size needs no advice for it", () => {
  const rules = (side: number, build: (x: Map) => Map) => advice(side, build).map(([, rule]) => rule);
  expect(rules(32, (x) => x.conv(8, 1, { stride: 2 }))).toEqual(["convolution-stride"]);
  expect(rules(32, (x) => x.avgPool(1, { stride: 2 }).pad(0, { channels: [0, 3] }))).toEqual([]);
  expect(rules(32, (x) => x.avgPool(1, { stride: 4 }))).toEqual([]);
  expect(rules(34, (x) => x.avgPool(2, { stride: 4 }))).toEqual(["input-divisible-by-2"]);
  expect(rules(32, (x) => x.maxPool(3, { stride: 1, padding: 1 }))).toEqual([]);
  expect(rules(28, (x) => x.maxPool(2).maxPool(2).avgPool(7))).toEqual([]);
  expect(rules(28, (x) => x.maxPool(2).maxPool(2).globalAvgPool())).toEqual([]);
});

test("advice is given on every branch and shortcut", () => {
  const found = advice(32, (x) =>
    concat([x.conv(8, 4, { padding: "same" }), x.conv(8, 7, { padding: 3 }).add(x.conv(8, 1))]),
  );
  expect(found.map(([layer, rule]) => [layer, rule])).toEqual([
    ["conv1", "small-kernel"],
    ["conv2", "small-kernel"],
  ]);
});
