import { expect, test } from "vitest";
import type { NodeDefinition } from "../../src/model/definition.js";
import { summarize } from "../../src/report/summary.js";
import { architecture, architectures, mobilenet, resnet20 } from "../../src/zoo/index.js";

/** A network's node by name. */
function node(network: string, name: string): NodeDefinition | undefined {
  return architecture(network)
    .create()
    .definition.nodes.find((each) => each.name === name);
}

/** The shape that a network's layer gives. */
function output(network: string, name: string): readonly number[] | undefined {
  return summarize(architecture(network).create().definition).layers.find((each) => each.name === name)?.output;
}

test("AlexNet's sizes are those of the paper", () => {
  const sizes = ["features.0", "features.3", "features.7", "features.14"].map((name) => output("alexnet", name));
  expect(sizes).toEqual([
    [55, 55, 96],
    [27, 27, 96],
    [13, 13, 256],
    [6, 6, 256],
  ]);
});

test("AlexNet multiplies the sum of squares with 1e-4: five times the alpha of a mean", () => {
  const norm = { op: "localResponseNorm", size: 5, beta: 0.75, k: 2 };
  expect(node("alexnet", "features.2")).toMatchObject(norm);
  expect(node("alexnet", "features.6")).toMatchObject(norm);
  expect(node("alexnet", "features.2")).toHaveProperty("alpha", 5 * 1e-4);
});

test.each([
  ["googlenet", 5, 3, 0.4],
  ["googlenet-torchvision", 3, 2, 0.2],
])(
  "%s has windows of %d in the third branch and of %d in the last pooling, and dropout %d",
  (name, third, last, rate) => {
    expect(node(name, "inception3a.branch3.1.conv")).toMatchObject({
      kernel: [third, third],
      inputs: [expect.anything()],
    });
    expect(node(name, "maxpool4")).toMatchObject({ size: [last, last], stride: [2, 2], ceilMode: true });
    expect(node(name, "dropout")).toMatchObject({ rate });
    expect(node(name, "aux1.dropout")).toMatchObject({ rate: 0.7 });
    expect(["maxpool1", "maxpool2", "maxpool3", "maxpool4"].map((pool) => output(name, pool)?.[0])).toEqual([
      56, 28, 14, 7,
    ]);
  },
);

test("GoogLeNet's heads read modules 4a and 4d, as 4x4, and train with weight 0.3", () => {
  for (const name of ["googlenet", "googlenet-torchvision"]) {
    const { definition } = architecture(name).create();
    expect(definition.outputs).toEqual([
      { node: "fc", lossWeight: 1, loss: { kind: "crossEntropy" } },
      { node: "aux1.fc2", lossWeight: 0.3, loss: { kind: "crossEntropy" } },
      { node: "aux2.fc2", lossWeight: 0.3, loss: { kind: "crossEntropy" } },
    ]);
    expect(node(name, "aux1.avgpool")).toMatchObject({ inputs: ["inception4a"] });
    expect(node(name, "aux2.avgpool")).toMatchObject({ inputs: ["inception4d"] });
    expect(output(name, "aux2.avgpool")).toEqual([4, 4, 528]);
    const heads = summarize(definition).layers.filter((layer) => layer.auxiliary);
    expect(heads.every((layer) => layer.name.startsWith("aux"))).toBe(true);
  }
  expect(node("googlenet", "aux1.avgpool")).toMatchObject({ op: "avgPool", size: [5, 5], stride: [3, 3] });
  expect(node("googlenet-torchvision", "aux1.avgpool")).toMatchObject({ op: "adaptiveAvgPool", size: [4, 4] });
});

test("torchvision's GoogLeNet normalises with epsilon 1e-3, the others with 1e-5", () => {
  expect(node("googlenet-torchvision", "inception5b.branch1.bn")).toMatchObject({ epsilon: 1e-3, momentum: 0.1 });
  for (const name of ["resnet18", "resnet20"]) expect(node(name, "layer1.0.bn1")).toMatchObject({ epsilon: 1e-5 });
  expect(node("mobilenet", "features.1.4")).toMatchObject({ epsilon: 1e-5 });
});

test("a bottleneck strides in its 3x3, and projects where the shape changes", () => {
  expect(node("resnet50", "layer2.0.conv1")).toMatchObject({ kernel: [1, 1], stride: [1, 1], filters: 128 });
  expect(node("resnet50", "layer2.0.conv2")).toMatchObject({ kernel: [3, 3], stride: [2, 2], filters: 128 });
  expect(node("resnet50", "layer1.0.downsample.0")).toMatchObject({ filters: 256, stride: [1, 1] });
  expect(node("resnet50", "layer1.1.downsample.0")).toBeUndefined();
  expect(node("resnet18", "layer1.0.downsample.0")).toBeUndefined();
});

test("CIFAR's shortcuts take every second pixel and append channels of zeros", () => {
  expect(node("resnet20", "layer2.0.downsample.0")).toMatchObject({ op: "avgPool", size: [1, 1], stride: [2, 2] });
  expect(node("resnet20", "layer2.0.downsample.1")).toMatchObject({ padding: [0, 0, 0, 0], channels: [0, 16] });
  expect(output("resnet20", "layer2.0.downsample.1")).toEqual([16, 16, 32]);
  expect(resnet20({ input: [33, 47, 1], classes: 3 }).outputShape).toEqual([3]);
});

test("MobileNet's multiplier scales every layer's channels, and names the network", () => {
  const { definition } = mobilenet({ width: 0.25, input: [128, 128, 3] });
  expect(definition.name).toBe("mobilenet-0.25");
  expect(definition.nodes.find(({ name }) => name === "features.0.0")).toMatchObject({ filters: 8, stride: [2, 2] });
  expect(definition.nodes.find(({ name }) => name === "features.13.0")).toMatchObject({ groups: 256, filters: 256 });
  expect(mobilenet({ width: 0.001 }).outputSize).toBe(1000);
  for (const width of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => mobilenet({ width })).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  }
});

test.each([
  ["alexnet", 'a window within the padded input of 2x2 for "features.3" but received 3x3 (input [2, 2, 96])', 15],
  ["alexnet", 'a window within the padded input of 2x2 for "features.7" but received 3x3 (input [2, 2, 256])', 32],
  [
    "alexnet-torchvision",
    'a window within the padded input of 1x1 for "features.12" but received 3x3 (input [1, 1, 256])',
    32,
  ],
  ["googlenet", 'a window within the padded input of 2x2 for "aux1.avgpool" but received 5x5 (input [2, 2, 512])', 32],
  [
    "googlenet-torchvision",
    'a window within the padded input of 1x1 for "maxpool4" but received 2x2 (input [1, 1, 832])',
    30,
  ],
])("%s says that %s", (name, message, side) => {
  expect(() => architecture(name).create({ input: [side, side, 3] })).toThrow(
    expect.objectContaining({ code: "INVALID_SHAPE", message: expect.stringContaining(message) }),
  );
});

test.each([
  ["alexnet-torchvision", 192],
  ["alexnet-torchvision", 63],
  ["googlenet-torchvision", 128],
  ["googlenet-torchvision", 32],
])("%s takes a side of %d, as torchvision's does", (name, side) => {
  expect(architecture(name).create({ input: [side, side, 3], classes: 10 }).outputSize).toBe(10);
});

test.each(["resnet18", "resnet152", "resnet20", "resnet110", "mobilenet", "conv-mobilenet"])(
  "%s takes CIFAR's images and smaller ones",
  (name) => {
    for (const side of [32, 1]) {
      expect(architecture(name).create({ input: [side, side, 3], classes: 10 }).outputSize).toBe(10);
    }
  },
);

test("every architecture is made as its entry says, and takes another number of classes", () => {
  for (const { name, input, classes, create } of architectures) {
    expect(summarize(create().definition)).toMatchObject({ name, input, classes });
    expect(create({ classes: 3 }).outputSize).toBe(3);
    expect(create({ name: "mine" }).definition.name).toBe("mine");
  }
});

test("an architecture that is not in the zoo is refused with the names that are", () => {
  expect(() => architecture("lenet6")).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringMatching(/lenet5.*resnet18.*"lenet6"/) }),
  );
});
