import { expect, test } from "vitest";
import { concat } from "../../src/model/concat.js";
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
    outputs: [{ node: "softmax1", lossWeight: 1, loss: { kind: "crossEntropy" } }],
  });
});

test("normalisations of groups of channels and of pixels are written with every option", () => {
  const { nodes } = model(input(6, 6, 4), (x) =>
    x.groupNorm(2).layerNorm({ epsilon: 1e-6, name: "ln" }).groupNorm(4, { epsilon: 1e-3 }).flatten().layerNorm(),
  ).definition;
  expect(nodes).toEqual([
    { name: "groupNorm1", op: "groupNorm", inputs: ["input"], groups: 2, epsilon: 1e-5 },
    { name: "ln", op: "layerNorm", inputs: ["groupNorm1"], epsilon: 1e-6 },
    { name: "groupNorm2", op: "groupNorm", inputs: ["ln"], groups: 4, epsilon: 1e-3 },
    { name: "flatten1", op: "flatten", inputs: ["groupNorm2"] },
    { name: "layerNorm2", op: "layerNorm", inputs: ["flatten1"], epsilon: 1e-5 },
  ]);
  expect(() => input(6, 6, 4).groupNorm(3)).toThrow(
    'Expected groups that divide 4 channels for "groupNorm1" but received 3 (input [6, 6, 4]).',
  );
});

test("normalisation, dropout, shortcuts and padding are written with every option", () => {
  const { nodes } = model(input(12, 12, 4), (x) => {
    const y = x
      .depthwiseConv(3, { padding: 1, stride: 2, bias: false })
      .batchNorm({ epsilon: 1e-3, momentum: 0.01, name: "bn" })
      .leakyRelu({ slope: 0.2 })
      .localResponseNorm(3, { alpha: 1, beta: 0.5, k: 2 })
      .dropout(0.4);
    const z = concat([y.batchNorm(), y.localResponseNorm(5).relu6().pad(0)], { name: "both" });
    return z
      .adaptiveAvgPool([3, 2])
      .add(z.avgPool([2, 3]).sigmoid())
      .globalAvgPool()
      .leakyRelu();
  }).definition;
  expect(nodes).toEqual([
    {
      name: "conv1",
      op: "conv",
      inputs: ["input"],
      filters: 4,
      kernel: [3, 3],
      stride: [2, 2],
      padding: [1, 1, 1, 1],
      dilation: [1, 1],
      groups: 4,
      bias: false,
      init: "kaiming",
    },
    { name: "bn", op: "batchNorm", inputs: ["conv1"], epsilon: 1e-3, momentum: 0.01 },
    { name: "leakyRelu1", op: "leakyRelu", inputs: ["bn"], slope: 0.2 },
    { name: "localResponseNorm1", op: "localResponseNorm", inputs: ["leakyRelu1"], size: 3, alpha: 1, beta: 0.5, k: 2 },
    { name: "dropout1", op: "dropout", inputs: ["localResponseNorm1"], rate: 0.4 },
    { name: "batchNorm2", op: "batchNorm", inputs: ["dropout1"], epsilon: 1e-5, momentum: 0.1 },
    {
      name: "localResponseNorm2",
      op: "localResponseNorm",
      inputs: ["dropout1"],
      size: 5,
      alpha: 1e-4,
      beta: 0.75,
      k: 1,
    },
    { name: "relu6-1", op: "relu6", inputs: ["localResponseNorm2"] },
    { name: "pad1", op: "pad", inputs: ["relu6-1"], padding: [0, 0, 0, 0], channels: [0, 0] },
    { name: "both", op: "concat", inputs: ["batchNorm2", "pad1"] },
    {
      name: "avgPool1",
      op: "avgPool",
      inputs: ["both"],
      size: [2, 3],
      stride: [2, 3],
      padding: "valid",
      ceilMode: false,
      countIncludePad: true,
    },
    {
      name: "avgPool2",
      op: "avgPool",
      inputs: ["both"],
      size: [2, 3],
      stride: [2, 3],
      padding: "valid",
      ceilMode: false,
      countIncludePad: true,
    },
    { name: "sigmoid1", op: "sigmoid", inputs: ["avgPool2"] },
    { name: "add1", op: "add", inputs: ["avgPool1", "sigmoid1"] },
    { name: "globalAvgPool1", op: "globalAvgPool", inputs: ["add1"] },
    { name: "leakyRelu2", op: "leakyRelu", inputs: ["globalAvgPool1"], slope: 0.01 },
  ]);
});

test("transposed convolutions, scales, arithmetic and other functions are written with every option", () => {
  const { nodes } = model(input(6, 6, 4), (x) => {
    const y = x
      .convTranspose(8, [2, 3], { stride: 2, padding: [1, 0, 0, 1], dilation: [1, 2], outputPadding: 1, groups: 2 })
      .prelu()
      .clip(-1, 2)
      .hardSigmoid({ alpha: 0.25 })
      .hardSwish()
      .affine(2)
      .scale({ bias: false, name: "gain" });
    const z = y.multiply(y.globalMaxPool().prelu({ shared: true }).logSoftmax());
    return z.subtract(y).divide(z).adaptiveAvgPool([5, 4]).upsample([1, 3]).scale();
  }).definition;
  expect(nodes).toEqual([
    {
      name: "convTranspose1",
      op: "convTranspose",
      inputs: ["input"],
      filters: 8,
      kernel: [2, 3],
      stride: [2, 2],
      padding: [1, 0, 0, 1],
      outputPadding: [1, 1],
      dilation: [1, 2],
      groups: 2,
      bias: true,
      init: "kaiming",
    },
    { name: "prelu1", op: "prelu", inputs: ["convTranspose1"], shared: false },
    { name: "clip1", op: "clip", inputs: ["prelu1"], min: -1, max: 2 },
    { name: "hardSigmoid1", op: "hardSigmoid", inputs: ["clip1"], alpha: 0.25, beta: 0.5 },
    { name: "hardSwish1", op: "hardSwish", inputs: ["hardSigmoid1"] },
    { name: "affine1", op: "affine", inputs: ["hardSwish1"], scale: 2, shift: 0 },
    { name: "gain", op: "scale", inputs: ["affine1"], bias: false },
    { name: "globalMaxPool1", op: "globalMaxPool", inputs: ["gain"] },
    { name: "prelu2", op: "prelu", inputs: ["globalMaxPool1"], shared: true },
    { name: "logSoftmax1", op: "logSoftmax", inputs: ["prelu2"] },
    { name: "multiply1", op: "multiply", inputs: ["gain", "logSoftmax1"] },
    { name: "subtract1", op: "subtract", inputs: ["multiply1", "gain"] },
    { name: "divide1", op: "divide", inputs: ["subtract1", "multiply1"] },
    { name: "adaptiveAvgPool1", op: "adaptiveAvgPool", inputs: ["divide1"], size: [5, 4] },
    { name: "upsample1", op: "upsample", inputs: ["adaptiveAvgPool1"], factor: [1, 3] },
    { name: "scale2", op: "scale", inputs: ["upsample1"], bias: true },
  ]);
});

test("connections and codes are written as they are given", () => {
  const { nodes } = model(input(6, 6, 2), (x) =>
    x
      .conv(2, 6, { connections: [[0], [0, 1]], init: "lecun" })
      .flatten()
      .radialBasis([[1, -0.5]]),
  ).definition;
  expect(nodes[0]).toMatchObject({ op: "conv", connections: [[0], [0, 1]], init: "lecun" });
  expect(nodes[2]).toEqual({ name: "radialBasis1", op: "radialBasis", inputs: ["flatten1"], codes: [[1, -0.5]] });
  expect(model(input(6, 6, 2), (x) => x.conv(2, 6)).definition.nodes[0]).not.toHaveProperty("connections");
});

test("a separable convolution is a depthwise one without bias and a pointwise one", () => {
  const { nodes } = model(input(8, 8, 6), (x) => x.separableConv(10, 3, { stride: 2, name: "block" })).definition;
  expect(nodes).toMatchObject([
    { name: "block.depthwise", groups: 6, filters: 6, kernel: [3, 3], stride: [2, 2], bias: false },
    { name: "block.pointwise", groups: 1, filters: 10, kernel: [1, 1], stride: [1, 1], bias: true },
  ]);
});

test("adaptive pooling adds nothing where the size is right, and is global where one value is asked for", () => {
  const ops = (size: number) =>
    model(input(6, 6, 2), (x) => x.relu().adaptiveAvgPool(size, { name: "pool" })).definition.nodes.map(({ op }) => op);
  expect(ops(6)).toEqual(["relu"]);
  expect(ops(1)).toEqual(["relu", "globalAvgPool"]);
  expect(ops(3)).toEqual(["relu", "avgPool"]);
  expect(ops(4)).toEqual(["relu", "adaptiveAvgPool"]);
  expect(ops(12)).toEqual(["relu", "adaptiveAvgPool"]);
  for (const size of [0, 1.5, -2, Number.NaN])
    expect(() => ops(size), `${size}`).toThrow(/a size .*"pool"|"pool\.size"/);
});

test("auxiliary heads follow the prediction among the outputs, and must be built on the same input", () => {
  const image = input(4, 4, 1);
  const heads = (output: FeatureMap<4, 4, 2>) =>
    model(image, (x) => ({ output: x.conv(2, 1, { name: "last" }), auxiliary: [{ output, lossWeight: 0.5 }] }));
  const { outputs, nodes } = model(image, (x) => {
    const early = x.conv(2, 1, { name: "early" });
    return { output: early.conv(2, 1, { name: "late" }), auxiliary: [{ output: early, lossWeight: 0.5 }] };
  }).definition;
  expect(outputs).toEqual([
    { node: "late", lossWeight: 1, loss: { kind: "crossEntropy" } },
    { node: "early", lossWeight: 0.5, loss: { kind: "crossEntropy" } },
  ]);
  expect(nodes.map(({ name }) => name)).toEqual(["early", "late"]);
  expect(() => heads(image.conv(2, 1))).toThrow(expect.objectContaining({ code: "INVALID_GRAPH" }));
});

test("layers of two networks cannot be added or concatenated", () => {
  const [one, other] = [input(4, 4, 1), input(4, 4, 1)];
  expect(() => one.add(other)).toThrow('Expected layers of one network for "add1" but received layers of two inputs.');
  expect(() => concat([one, other], { name: "both" })).toThrow('for "both"');
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
      message: 'Expected a kernel within the padded input of 4x4 for "conv1" but received 5x5 (input [4, 4, 1]).',
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
