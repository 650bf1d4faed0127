import { expect, test } from "vitest";
import {
  type ConvDefinition,
  describe,
  type GraphDefinition,
  type MaxPoolDefinition,
  type NodeDefinition,
} from "../../src/model/definition.js";
import { describeNode } from "../../src/model/operations.js";
import type { MapShape } from "../../src/model/shape.js";

const conv: ConvDefinition = {
  name: "conv1",
  op: "conv",
  inputs: ["input"],
  filters: 5,
  kernel: [5, 5],
  stride: [1, 1],
  padding: "valid",
  dilation: [1, 1],
  groups: 1,
  bias: false,
  init: "kaiming",
};
const pool: MaxPoolDefinition = {
  name: "maxPool1",
  op: "maxPool",
  inputs: ["input"],
  size: [2, 2],
  stride: [2, 2],
  padding: "valid",
  ceilMode: false,
};

function graph(nodes: readonly NodeDefinition[], input: MapShape = [28, 28, 3]): GraphDefinition {
  return { name: "test", input, nodes, outputs: [{ node: nodes.at(-1)?.name ?? "", lossWeight: 1 }] };
}

test("the counts that introduce convolutional networks", () => {
  const neuron = (side: number) => {
    const flatten: NodeDefinition = { name: "flatten1", op: "flatten", inputs: ["input"] };
    const dense: NodeDefinition = {
      name: "fc",
      op: "dense",
      inputs: ["flatten1"],
      units: 1,
      bias: false,
      init: "xavier",
    };
    return describe(graph([flatten, dense], [side, side, 3]))[1]?.parameters;
  };
  expect(neuron(32)).toBe(3072);
  expect(neuron(64)).toBe(12288);
  for (const side of [32, 64, 227]) expect(describeNode(conv, [[side, side, 3]]).parameters).toBe(375);
});

test("parameters and mult-adds count weights per group, biases once, and every place of the output", () => {
  expect(describeNode({ ...conv, bias: true }, [[28, 28, 3]])).toEqual({
    output: [24, 24, 5],
    parameters: 380,
    multAdds: 24 * 24 * 375,
  });
  const grouped = describeNode({ ...conv, filters: 8, groups: 4, kernel: [3, 1] }, [[10, 10, 12]]);
  expect(grouped).toEqual({ output: [8, 10, 8], parameters: 8 * 3 * 3, multAdds: 8 * 10 * 8 * 3 * 3 });
});

test("the number of windows is the number of places where one fits", () => {
  for (let size = 1; size <= 9; size += 1) {
    for (let kernel = 1; kernel <= 4; kernel += 1) {
      for (let stride = 1; stride <= 4; stride += 1) {
        for (const [before, after] of [
          [0, 0],
          [0, 1],
          [1, 0],
          [2, 3],
        ] as const) {
          for (const ceilMode of [false, true]) {
            if (Math.max(before, after) >= kernel || before + size + after < kernel) continue;
            const places: number[] = [];
            for (let start = -before; start < size; start += stride) {
              const overhang = start + kernel - (size + after);
              if (overhang <= 0 || (ceilMode && overhang < stride)) places.push(start);
            }
            const node = {
              ...pool,
              size: [kernel, 1],
              stride: [stride, 1],
              padding: [before, 0, after, 0],
              ceilMode,
            } as const;
            expect(describeNode(node, [[size, 1, 1]]).output, JSON.stringify(node)).toEqual([places.length, 1, 1]);
          }
        }
      }
    }
  }
});

test("padding same gives the input over the stride, rounded up", () => {
  for (let size = 1; size <= 9; size += 1) {
    for (let stride = 1; stride <= 4; stride += 1) {
      const node = { ...conv, padding: "same", stride: [stride, 1], dilation: [2, 1] } as const;
      expect(describeNode(node, [[size, 7, 1]]).output).toEqual([Math.ceil(size / stride), 7, 5]);
    }
  }
});

test.each<[string, NodeDefinition, readonly [number, number, number] | readonly [number], string]>([
  [
    "a window larger than its input",
    conv,
    [4, 9, 1],
    'Expected a kernel within the padded input of 4x9 for "conv1" but received 5x5 (input [4, 9, 1]).',
  ],
  [
    "a window larger than its padded input",
    { ...conv, kernel: [3, 9], padding: [1, 2, 1, 1] },
    [4, 4, 1],
    'Expected a kernel within the padded input of 6x7 for "conv1" but received 3x9 (input [4, 4, 1]).',
  ],
  [
    "a dilated window",
    { ...conv, kernel: [3, 3], dilation: [2, 2] },
    [4, 4, 1],
    'Expected a dilated kernel within the padded input of 4x4 for "conv1" but received 5x5 (input [4, 4, 1]).',
  ],
  [
    "a pooling window",
    pool,
    [1, 1, 6],
    'Expected a window within the padded input of 1x1 for "maxPool1" but received 2x2 (input [1, 1, 6]).',
  ],
  [
    "padding as large as the window",
    { ...pool, padding: [0, 2, 0, 0] },
    [4, 4, 6],
    'Expected padding smaller than the window of 2x2 for "maxPool1" but received [0, 2, 0, 0] (input [4, 4, 6]).',
  ],
  [
    "channels that groups do not divide",
    { ...conv, groups: 3, filters: 6 },
    [9, 9, 64],
    'Expected groups that divide 64 channels and 6 filters for "conv1" but received 3 (input [9, 9, 64]).',
  ],
  [
    "filters that groups do not divide",
    { ...conv, groups: 2, filters: 5 },
    [9, 9, 64],
    'Expected groups that divide 64 channels and 5 filters for "conv1" but received 2 (input [9, 9, 64]).',
  ],
  ["no filters", { ...conv, filters: 0 }, [9, 9, 1], 'Expected filters of 1 to 1048576 for "conv1" but received 0.'],
  [
    "half a stride",
    { ...conv, stride: [0.5, 1] },
    [9, 9, 1],
    'Expected whole numbers of at least 0 for "conv1.stride" but received [0.5,1].',
  ],
  [
    "a kernel that is no number",
    { ...conv, kernel: [Number.NaN, 1] },
    [9, 9, 1],
    'Expected finite numbers for "conv1.kernel" but received NaN.',
  ],
  [
    "negative padding",
    { ...conv, padding: [0, -1, 0, 0] },
    [9, 9, 1],
    'Expected "same", "valid" or whole numbers [top, right, bottom, left] for "conv1.padding" but received [0,-1,0,0].',
  ],
  [
    "a dense layer on a feature map",
    { name: "fc", op: "dense", inputs: ["input"], units: 3, bias: true, init: "kaiming" },
    [9, 9, 1],
    'Expected a vector for "fc" but received a feature map, which flatten makes one (input [9, 9, 1]).',
  ],
  ["a convolution of a vector", conv, [81], 'Expected a feature map for "conv1" but received a vector (input [81]).'],
  [
    "more values than the engine holds",
    { ...conv, padding: "same", filters: 1024 },
    [8192, 8192, 1],
    'Expected at most 2147483648 elements in the output of "conv1" but received [8192, 8192, 1024].',
  ],
])("%s is refused in one sentence with its numbers", (_, node, input, message) => {
  expect(() => describeNode(node, [input])).toThrow(expect.objectContaining({ name: "FoveaError", message }));
});

const node = (op: string, options: object = {}): NodeDefinition =>
  JSON.parse(JSON.stringify({ name: "layer", op, inputs: ["input"], ...options }));

test("layers that join others want equal shapes, or equal heights and widths", () => {
  expect(
    describeNode(node("add"), [
      [4, 5, 6],
      [4, 5, 6],
    ]).output,
  ).toEqual([4, 5, 6]);
  expect(describeNode(node("add"), [[7], [7]]).output).toEqual([7]);
  const concatenated = describeNode(node("concat"), [
    [4, 5, 6],
    [4, 5, 1],
    [4, 5, 2],
  ]);
  expect(concatenated.output).toEqual([4, 5, 9]);
  expect(describeNode(node("concat"), [[7], [1]]).output).toEqual([8]);
});

test.each<[string, readonly (readonly [number, number, number] | readonly [number])[], string]>([
  [
    "add",
    [
      [4, 5, 6],
      [4, 5, 7],
    ],
    'Expected inputs of equal shapes for "layer" but received [4, 5, 6] and [4, 5, 7].',
  ],
  ["add", [[6], [1, 1, 6]], 'Expected vectors alone or feature maps alone for "layer" but received [6] and [1, 1, 6].'],
  ["add", [[6]], 'Expected 2 inputs for "layer" but received 1.'],
  ["add", [[6], [6], [6]], 'Expected 2 inputs for "layer" but received 3.'],
  ["concat", [[6]], 'Expected 2 inputs or more for "layer" but received 1.'],
  [
    "concat",
    [[6], [6, 6, 6]],
    'Expected vectors alone or feature maps alone for "layer" but received [6] and [6, 6, 6].',
  ],
  [
    "concat",
    [
      [4, 5, 6],
      [4, 5, 6],
      [4, 6, 6],
    ],
    'Expected inputs of equal height and width for "layer" but received [4, 5, 6] and [4, 6, 6].',
  ],
  ["relu", [[6], [6]], 'Expected 1 input for "layer" but received 2.'],
])("%s of %j is refused", (op, inputs, message) => {
  expect(() => describeNode(node(op), inputs)).toThrow(expect.objectContaining({ name: "FoveaError", message }));
});

test("padding adds to all three sizes, batch normalisation has two parameters a channel", () => {
  const pad = node("pad", { padding: [1, 2, 3, 4], channels: [5, 6] });
  expect(describeNode(pad, [[10, 20, 30]])).toEqual({ output: [14, 26, 41], parameters: 0, multAdds: 0 });
  const batchNorm = node("batchNorm", { epsilon: 1e-5, momentum: 0.1 });
  expect(describeNode(batchNorm, [[10, 20, 30]])).toEqual({ output: [10, 20, 30], parameters: 60, multAdds: 0 });
  expect(describeNode(batchNorm, [[30]])).toEqual({ output: [30], parameters: 60, multAdds: 0 });
});

const transposed = {
  filters: 6,
  kernel: [3, 2],
  stride: [2, 2],
  padding: [1, 0, 0, 0],
  outputPadding: [1, 0],
  dilation: [1, 1],
  groups: 2,
  bias: true,
  init: "kaiming",
};

test("a transposed convolution counts its weights once and a product for each pixel that it reads", () => {
  expect(describeNode(node("convTranspose", transposed), [[5, 4, 8]])).toEqual({
    output: [11, 8, 6],
    parameters: 8 * 3 * 3 * 2 + 6,
    multAdds: 5 * 4 * 8 * 3 * 3 * 2,
  });
  const same = node("convTranspose", { ...transposed, padding: "same", bias: false });
  expect(describeNode(same, [[5, 4, 8]])).toMatchObject({ output: [10, 8, 6], parameters: 8 * 3 * 3 * 2 });
});

test.each([
  [
    { padding: [9, 0, 3, 0] },
    'Expected padding that leaves some of 12x8 pixels for "layer" but received [9, 0, 3, 0] (input [5, 4, 8]).',
  ],
  [
    { stride: [2, 3], padding: "same", outputPadding: [0, 0] },
    'Expected a kernel that reaches as far as the stride, for padding "same" for "layer" but received 3x2 (input [5, 4, 8]).',
  ],
  [{ groups: 3 }, 'Expected groups that divide 8 channels and 6 filters for "layer" but received 3 (input [5, 4, 8]).'],
  [{ groups: 4 }, 'Expected groups that divide 8 channels and 6 filters for "layer" but received 4 (input [5, 4, 8]).'],
])("a transposed convolution with %j does not fit", (change, message) => {
  const layer = node("convTranspose", { ...transposed, ...change });
  expect(() => describeNode(layer, [[5, 4, 8]])).toThrow(expect.objectContaining({ code: "INVALID_SHAPE", message }));
});

test("scales and learnt slopes have parameters for each channel", () => {
  const parameters = (op: string, options: object, input: readonly [number, number, number] | readonly [number]) =>
    describeNode(node(op, options), [input]).parameters;
  expect(parameters("scale", { bias: true }, [4, 5, 6])).toBe(12);
  expect(parameters("scale", { bias: false }, [7])).toBe(7);
  expect(parameters("prelu", { shared: false }, [4, 5, 6])).toBe(6);
  expect(parameters("prelu", { shared: true }, [4, 5, 6])).toBe(1);
});

test("filters that see some channels count the weights that they have", () => {
  const some = { ...conv, filters: 3, bias: true, connections: [[0, 2], [1], [0, 1, 2]] };
  expect(describeNode(some, [[28, 28, 3]])).toEqual({
    output: [24, 24, 3],
    parameters: 6 * 25 + 3,
    multAdds: 24 * 24 * 6 * 25,
  });
  for (const connections of [
    [[0], [1]],
    [[0], [1], []],
    [[0], [1], [3]],
    [[0], [1], [2, 1]],
  ]) {
    expect(() => describeNode({ ...some, connections }, [[28, 28, 3]])).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message:
          "Expected an ascending list of some of 3 channels for each of 3 filters in one group for " +
          `"conv1.connections" but received ${JSON.stringify(connections)}.`,
      }),
    );
  }
});

test("distances want codes as long as what they read", () => {
  const codes = [
    [1, -1, 1],
    [0.5, 1, -1],
  ];
  expect(describeNode(node("radialBasis", { codes }), [[3]])).toEqual({ output: [2], parameters: 0, multAdds: 0 });
  expect(() => describeNode(node("radialBasis", { codes }), [[4]])).toThrow(
    'Expected codes of 4 numbers for "layer" but received 3 (input [1, 1, 4]).',
  );
  expect(() => describeNode(node("radialBasis", { codes }), [[1, 1, 3]])).toThrow('Expected a vector for "layer"');
  for (const wrong of [[], [["1"]], [[Number.NaN]], undefined]) {
    expect(() => describeNode(node("radialBasis", { codes: wrong }), [[1]])).toThrow(
      /codes.*for "layer|"layer\.codes"/,
    );
  }
});

test("a product takes a factor for each channel, as map or vector", () => {
  for (const factors of [[1, 1, 6], [6]] as const) {
    expect(describeNode(node("multiply"), [[4, 5, 6], factors]).output).toEqual([4, 5, 6]);
    expect(() => describeNode(node("subtract"), [[4, 5, 6], factors])).toThrow(
      /(equal shapes|feature maps alone) for "layer"/,
    );
  }
  expect(() =>
    describeNode(node("multiply"), [
      [4, 5, 6],
      [1, 1, 5],
    ]),
  ).toThrow('equal shapes, or a second one of [1, 1, channels], for "layer" but received [4, 5, 6] and [1, 1, 5].');
});

test.each([
  ["batchNorm", { epsilon: 0, momentum: 0.1 }, 'an epsilon above 0 for "layer"'],
  ["batchNorm", { momentum: 0.1 }, '"layer.epsilon"'],
  ["batchNorm", { epsilon: 1e-5, momentum: 1.1 }, 'a momentum of 0 to 1 for "layer"'],
  ["batchNorm", { epsilon: 1e-5 }, '"layer.momentum"'],
  ["dropout", { rate: 1 }, 'a rate from 0 to below 1 for "layer"'],
  ["dropout", { rate: -0.1 }, 'a rate from 0 to below 1 for "layer"'],
  ["dropout", {}, '"layer.rate"'],
  ["localResponseNorm", { size: 0, alpha: 1, beta: 1, k: 1 }, 'a window of 1 to 1024 for "layer"'],
  ["localResponseNorm", { size: 5, alpha: -1, beta: 1, k: 1 }, 'an alpha of at least 0 for "layer"'],
  ["localResponseNorm", { size: 5, alpha: 1, k: 1 }, '"layer.beta"'],
  ["localResponseNorm", { size: 5, alpha: 1, beta: 1, k: 0 }, 'a k above 0 for "layer"'],
  ["leakyRelu", { slope: -1 }, 'a slope of at least 0 for "layer"'],
  ["leakyRelu", {}, '"layer.slope"'],
  ["clip", { min: Number.NaN, max: 1 }, '"layer.min"'],
  ["clip", { min: 1, max: 0.5 }, 'a finite max of at least min for "layer"'],
  ["clip", { min: 1 }, '"layer.max"'],
  ["hardSigmoid", { alpha: 1 }, '"layer.beta"'],
  ["hardSigmoid", { beta: 1 }, '"layer.alpha"'],
  ["affine", { scale: 1 }, '"layer.shift"'],
  ["affine", { shift: 1 }, '"layer.scale"'],
  ["upsample", { factor: [2, 0] }, 'a factor of 1 to 1024 for "layer"'],
  ["upsample", {}, '"layer.factor"'],
  ["adaptiveAvgPool", { size: [0.5, 1] }, '"layer.size"'],
  ["adaptiveAvgPool", {}, '"layer.size"'],
  [
    "convTranspose",
    { ...transposed, outputPadding: [0, 2] },
    'an output padding below the stride, of 0 to 1 for "layer"',
  ],
  ["convTranspose", { ...transposed, outputPadding: undefined }, '"layer.outputPadding"'],
  ["convTranspose", { ...transposed, filters: 0 }, 'filters of 1 to 1048576 for "layer"'],
  ["convTranspose", { ...transposed, stride: [1] }, '"layer.stride"'],
  ["convTranspose", { ...transposed, init: "zeros" }, '"layer.init"'],
  ["pad", { padding: [0, 0, 0], channels: [0, 0] }, '"layer.padding"'],
  ["pad", { padding: [0, 0, 0, -1], channels: [0, 0] }, '"layer.padding"'],
  ["pad", { padding: [0, 0, 0, 0], channels: [0, 0.5] }, '"layer.channels"'],
  ["pad", { padding: [0, 0, 0, 0] }, '"layer.channels"'],
])("%s with %j is refused: expected was %s", (op, options, expected) => {
  expect(() => describeNode(node(op, options), [[8, 8, 8]])).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(expected) }),
  );
});

test.each([
  "globalAvgPool",
  "globalMaxPool",
  "adaptiveAvgPool",
  "upsample",
  "convTranspose",
  "flatten",
  "pad",
  "localResponseNorm",
])("%s wants a feature map", (op) => {
  expect(() => describeNode(node(op), [[8]])).toThrow('Expected a feature map for "layer" but received a vector');
});

test("outputs have one shape, and loss weights from 0", () => {
  const outputs = (...weights: number[]): GraphDefinition => ({
    ...graph([conv, node("relu", { inputs: ["conv1"] })]),
    outputs: ["layer", "conv1"].map((node, index) => ({ node, lossWeight: weights[index] ?? Number.NaN })),
  });
  expect(describe(outputs(1, 0))).toHaveLength(2);
  for (const weight of [-1, Number.NaN])
    expect(() => describe(outputs(1, weight))).toThrow(
      /loss weight of at least 0 for output "conv1"|"conv1.lossWeight"/,
    );
  const pooled = graph([conv, { ...pool, inputs: ["conv1"] }]);
  const unequal = ["maxPool1", "conv1"].map((node) => ({ node, lossWeight: 1 }));
  expect(() => describe({ ...pooled, outputs: unequal })).toThrow(
    'Expected an output of [12, 12, 5] from "conv1" but received [24, 24, 5].',
  );
  expect(() => describe({ ...pooled, outputs: [] })).toThrow("Expected at least one output but received none.");
});

test("outputs say how they are judged, and those of older files are judged by cross-entropy", () => {
  const judged = (loss: object): GraphDefinition =>
    JSON.parse(JSON.stringify({ ...graph([conv]), outputs: [{ node: "conv1", lossWeight: 1, loss }] }));
  for (const kind of ["crossEntropy", "binaryCrossEntropy", "meanSquaredError"]) {
    expect(describe(judged({ kind }))).toHaveLength(1);
  }
  expect(describe(judged({ kind: "maximumAPosteriori", rejection: 0.1 }))).toHaveLength(1);
  expect(() => describe(judged({ kind: "hinge" }))).toThrow('for "conv1.loss" but received {"kind":"hinge"}');
  expect(() => describe(judged({ kind: "maximumAPosteriori" }))).toThrow('"conv1.rejection"');
});

test("a definition from a file may lack or misname anything, and the message says where", () => {
  const read = (change: object): GraphDefinition => JSON.parse(JSON.stringify(graph([{ ...conv, ...change }])));
  expect(() => describe(read({ op: "convolve" }))).toThrow(
    /^Expected an op among conv, .* for "conv1" but received "convolve"\.$/,
  );
  for (const key of ["kernel", "stride", "dilation", "padding", "filters", "groups", "init"]) {
    expect(() => describe(read({ [key]: undefined })), key).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(`"conv1.${key}"`) }),
    );
  }
  expect(() => describe({ ...graph([conv]), input: [28, -28, 1] })).toThrow('"input"');
});

test("names must lead to layers", () => {
  const refuses = (definition: GraphDefinition, message: string) =>
    expect(() => describe(definition)).toThrow(expect.objectContaining({ code: "INVALID_GRAPH", message }));
  refuses(
    graph([{ ...conv, inputs: ["conv0"] }]),
    'Expected the inputs of "conv1" to be earlier nodes but received "conv0".',
  );
  refuses(graph([{ ...conv, inputs: [] }]), 'Expected 1 input for "conv1" but received 0.');
  refuses(
    graph([conv, conv]),
    'Expected a name for node 1 that is unique, not empty, not "input" and does not begin with "optimizer." but received "conv1".',
  );
  refuses(
    { ...graph([conv]), outputs: [{ node: "fc", lossWeight: 1 }] },
    'Expected each output to be a node, named once, but received "fc".',
  );
});
