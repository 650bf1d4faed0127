import { expect, test } from "vitest";
import { type FeatureMap, input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";

test("a model's definition holds every option of every layer, in order", () => {
  const { definition } = model(
    input(28, 28, 2),
    (x) =>
      x
        .conv(6, 5, { padding: "same" })
        .relu()
        .maxPool(2)
        .conv(8, [3, 1], {
          stride: [2, 1],
          padding: 1,
          dilation: 2,
          groups: 2,
          bias: false,
          init: "xavier",
          name: "second",
        })
        .tanh()
        .avgPool([2, 3], { stride: 1, padding: [1, 0, 0, 1], ceilMode: true, countIncludePad: false })
        .flatten()
        .dense(10, { name: "scores" })
        .softmax(),
    { name: "every" },
  );
  expect(definition).toEqual({
    name: "every",
    input: [28, 28, 2],
    nodes: [
      {
        name: "conv1",
        op: "conv",
        inputs: ["input"],
        filters: 6,
        kernel: [5, 5],
        stride: [1, 1],
        padding: "same",
        dilation: [1, 1],
        groups: 1,
        bias: true,
        init: "kaiming",
      },
      { name: "relu1", op: "relu", inputs: ["conv1"] },
      {
        name: "maxPool1",
        op: "maxPool",
        inputs: ["relu1"],
        size: [2, 2],
        stride: [2, 2],
        padding: "valid",
        ceilMode: false,
      },
      {
        name: "second",
        op: "conv",
        inputs: ["maxPool1"],
        filters: 8,
        kernel: [3, 1],
        stride: [2, 1],
        padding: [1, 1, 1, 1],
        dilation: [2, 2],
        groups: 2,
        bias: false,
        init: "xavier",
      },
      { name: "tanh1", op: "tanh", inputs: ["second"] },
      {
        name: "avgPool1",
        op: "avgPool",
        inputs: ["tanh1"],
        size: [2, 3],
        stride: [1, 1],
        padding: [1, 0, 0, 1],
        ceilMode: true,
        countIncludePad: false,
      },
      { name: "flatten1", op: "flatten", inputs: ["avgPool1"] },
      { name: "scores", op: "dense", inputs: ["flatten1"], units: 10, bias: true, init: "kaiming" },
      { name: "softmax1", op: "softmax", inputs: ["scores"] },
    ],
    outputs: [{ node: "softmax1", lossWeight: 1 }],
  });
});

const names = (build: Parameters<typeof model<8, 8, 1, FeatureMap<number, number, number>>>[1]) =>
  model(input(8, 8, 1), build).definition.nodes.map((node) => node.name);

test("layers without a name are numbered by their kind, around names that are taken", () => {
  expect(names((x) => x.relu().conv(1, 1).relu({ name: "last" }).relu())).toEqual(["relu1", "conv1", "last", "relu3"]);
  expect(names((x) => x.relu({ name: "relu2" }).relu())).toEqual(["relu2", "relu3"]);
});

test("a name that is taken, reserved or empty is refused", () => {
  for (const name of ["first", "input", "", "optimizer.conv1"]) {
    expect(() => names((x) => x.relu({ name: "first" }).relu({ name }))).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  }
});

test("a model can be made of the same input again, and layers that no output needs are left out", () => {
  const image = input(8, 8, 1);
  const build = (x: FeatureMap<8, 8, 1>) => {
    x.conv(64, 3);
    return x.conv(2, 3, { name: "used" });
  };
  expect(model(image, build).definition).toEqual(model(image, build).definition);
  expect(model(image, build).definition.nodes.map((node) => node.name)).toEqual(["used"]);
});

test("an output must be built on the model's own input", () => {
  const image = input(8, 8, 1);
  const refused = expect.objectContaining({ code: "INVALID_GRAPH" });
  expect(() => model(image, () => image.relu())).toThrow(refused);
  expect(() => model(image, (x) => x)).toThrow(refused);
});

test("sizes that the compiler cannot know are checked when a layer is added, and the message names the layer", () => {
  const side: number = 4;
  expect(() => input(side, side, 1).conv(8, 5)).toThrow(
    expect.objectContaining({
      code: "INVALID_SHAPE",
      message: 'Expected a window of at most 4 for "conv1" but received a kernel of 5 (input [4, 4, 1]).',
    }),
  );
  expect(() => input(0, 4, 1)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
});

test("options of the wrong type, as JavaScript may pass them, are refused with their name", () => {
  const x = input(8, 8, 1);
  const conv = (...options: unknown[]) => Reflect.apply(x.conv, x, options);
  expect(() => conv(8)).toThrow('"conv1.kernel"');
  expect(() => conv("8", 3)).toThrow('"conv1.filters"');
  expect(() => conv(8, [3])).toThrow('"conv1.kernel"');
  expect(() => conv(8, 3, { padding: "some" })).toThrow('"conv1.padding"');
  expect(() => conv(8, 3, { init: "zeros" })).toThrow('"conv1.init"');
  expect(() => conv(8, 3, { stride: null })).toThrow('"conv1.stride"');
});
