import { expect, test } from "vitest";
import { input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import { boxGraph } from "../../src/report/diagram/boxes.js";
import { diagram } from "../../src/report/diagram/index.js";
import { type PlacedBox, placeBoxes } from "../../src/report/diagram/layout.js";
import { architecture, architectures, lenet5 } from "../../src/zoo/index.js";

/** The boxes that cover a part of one another. */
function overlaps(boxes: readonly PlacedBox[]): string[] {
  return boxes.flatMap((one, index) =>
    boxes
      .slice(index + 1)
      .filter(
        (other) =>
          Math.abs(one.x - other.x) < (one.width + other.width) / 2 &&
          Math.abs(one.y - other.y) < (one.height + other.height) / 2,
      )
      .map((other) => `${one.box.name} and ${other.box.name}`),
  );
}

test.each(architectures.map(({ name }) => name))("%s is drawn within its frame, no box over another", (name) => {
  const { definition } = architecture(name).create();
  const graph = boxGraph(definition);
  const { boxes, arrows, width, height } = placeBoxes(graph);
  expect(boxes.filter(({ box }) => !box.name.startsWith("port ")).map(({ box }) => box.name)).toEqual(
    expect.arrayContaining(graph.boxes.map(({ name }) => name)),
  );
  expect(arrows).toHaveLength(graph.arrows.length);
  expect(overlaps(boxes)).toEqual([]);
  for (const { x, y, width: wide, height: high } of boxes) {
    expect(x - wide / 2).toBeGreaterThanOrEqual(-0.5);
    expect(x + wide / 2).toBeLessThanOrEqual(width + 0.5);
    expect(y - high / 2).toBeGreaterThanOrEqual(-0.5);
    expect(y + high / 2).toBeLessThanOrEqual(height + 0.5);
  }
});

test("a convolution stands in one box with its batch normalisation and ReLU", () => {
  const { boxes } = boxGraph(architecture("resnet18").create().definition);
  const box = boxes.find(({ name }) => name === "layer2.0.conv1");
  expect(box).toMatchObject({ kind: "convolution", auxiliary: false });
  expect(box?.lines).toEqual([
    "layer2.0.conv1",
    "conv 3 × 3, 128, stride 2 · BatchNorm · ReLU",
    "28 × 28 × 128 · 73,984 parameters",
  ]);
});

test("a ResNet's shortcuts are told from its other lines", () => {
  const { arrows } = boxGraph(architecture("resnet50").create().definition);
  const shortcuts = arrows.filter(({ shortcut }) => shortcut);
  expect(shortcuts).toHaveLength(16);
  expect(shortcuts[0]).toEqual({ from: "layer1.0.downsample.0", to: "add1", shortcut: true });
  expect(shortcuts[1]).toEqual({ from: "add1", to: "add2", shortcut: true });
  expect(
    architecture("resnet50")
      .create()
      .diagram()
      .match(/<path class="shortcut"/g),
  ).toHaveLength(16);
});

test("GoogLeNet's heads are dashed and end in outputs of their own", () => {
  const { boxes } = boxGraph(architecture("googlenet").create().definition);
  const heads = boxes.filter(({ auxiliary }) => auxiliary);
  expect(heads.map(({ name }) => name.split(".")[0])).toEqual(
    ["aux1", "aux2"].flatMap((head) => Array(4).fill(head)).concat(["output of aux1", "output of aux2"]),
  );
  expect(heads.at(-1)?.lines).toEqual(["auxiliary output, loss × 0.3"]);
});

test("a diagram is one document of well-formed text, whatever the layers are called", () => {
  const { definition } = model(input(4, 4, 1), (x) => x.conv(2, 3, { name: 'a<b>&"c"' }).flatten().dense(2));
  const svg = diagram(definition);
  expect(svg).toContain("a&lt;b&gt;&amp;&quot;c&quot;");
  expect(svg).not.toContain("a<b>");
  const tags = [...svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)];
  const open: string[] = [];
  for (const [, closing, tag = "", empty] of tags) {
    if (closing) expect(open.pop()).toBe(tag);
    else if (!empty) open.push(tag);
  }
  expect(open).toEqual([]);
  expect(lenet5().diagram()).toContain("28 × 28 × 6 · 156 parameters");
});

test("layers that no network of the zoo has are described, too", () => {
  const { definition } = model(input(8, 8, 4), (x) =>
    x.convTranspose(6, 3, { stride: 2, name: "up" }).relu6().adaptiveAvgPool(5, { name: "five" }).conv(2, 3),
  );
  const lines = boxGraph(definition).boxes.map(({ lines }) => lines[1]);
  expect(lines).toContain("transposed conv 3 × 3, 6, stride 2 · ReLU6");
  expect(lines).toContain("adaptive average pool to 5 × 5");
});
