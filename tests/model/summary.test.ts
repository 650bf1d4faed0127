import { expect, test } from "vitest";
import { input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import { formatSummary, summarize } from "../../src/report/summary.js";
import { lenet5 } from "../../src/zoo/lenet.js";

const summary = summarize(lenet5().definition);

test("a summary tells each layer's type, shapes and counts, as plain JSON", () => {
  expect(JSON.parse(JSON.stringify(summary))).toEqual(summary);
  expect(summary.layers[0]).toEqual({
    name: "conv1",
    type: "conv",
    input: [28, 28, 1],
    output: [28, 28, 6],
    parameters: 156,
    multAdds: 117_600,
    activationBytes: 4 * 28 * 28 * 6,
    auxiliary: false,
  });
  expect(summary.layers.map((layer) => layer.name)).toEqual(
    "conv1 relu1 maxPool1 conv2 relu2 maxPool2 flatten1 fc1 relu3 fc2 relu4 fc3".split(" "),
  );
});

test("activation memory counts the input and what every layer writes, four bytes a value", () => {
  const values = 784 + 2 * 4704 + 1176 + 2 * 1600 + 400 + 2 * 120 + 2 * 84 + 10;
  expect(summary.activationBytes).toBe(4 * values);
});

test("the table shows layers, totals and advice, without colours", () => {
  const text = formatSummary(summary);
  expect(text).toMatch(/^lenet5: 28 x 28 x 1 in, 10 classes out\n/);
  expect(text).toMatch(/^conv2 +conv +10 x 10 x 16 +2,416 +240,000 +6.4$/m);
  expect(text).toContain("61,706 parameters (0.25 MB), 61,706 of them trainable\n416,520 mult-adds an image\n");
  expect(text).toContain('Sizing advice:\n  "conv2" goes from 14x14 to 10x10');
  expect(text).not.toContain("\u001b");
  expect(lenet5().summary()).toBe(text);
});

test("auxiliary heads are in the totals, and counted apart", () => {
  const { definition } = model(input(8, 8, 1), (x) => {
    const shared = x.conv(2, 3, { padding: 1, name: "shared" }).relu();
    const head = shared.flatten({ name: "flat" }).dense(3, { name: "head" });
    const output = shared.globalAvgPool().flatten().dense(3, { name: "fc" });
    return { output, auxiliary: [{ output: head, lossWeight: 0.3 }] };
  });
  const counted = summarize(definition);
  expect(counted.layers.filter((layer) => layer.auxiliary).map((layer) => layer.name)).toEqual(["flat", "head"]);
  expect(counted.auxiliary).toEqual({ parameters: 128 * 3 + 3, multAdds: 128 * 3, activationBytes: 12 });
  expect(counted).toMatchObject({ classes: 3, parameters: 20 + 387 + 9, multAdds: 64 * 18 + 384 + 6 });
  expect(formatSummary(counted)).toContain(
    "\nof these, 387 parameters, 384 mult-adds and 0 MB belong to auxiliary heads, which only training has; " +
      "without them 29 parameters, 1,158 mult-adds",
  );
  expect(formatSummary(summary)).not.toContain("auxiliary");
});
