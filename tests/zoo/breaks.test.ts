/** Networks made wrong on purpose: the comparison with PyTorch's logits must see every one of these mistakes. */
import { describe, expect, test } from "vitest";
import type { GraphDefinition, NodeDefinition } from "../../src/model/definition.js";
import { architecture } from "../../src/zoo/index.js";
import { temporaryDirectory } from "../support/directory.js";
import type { NamedTensor } from "../support/recipe.js";
import { goldenLogits, logitsError, recipeSession } from "./support.js";

const directory = temporaryDirectory();

/** The definition with other options of a layer. */
function changed(definition: GraphDefinition, name: string, options: object): GraphDefinition {
  const nodes = definition.nodes.map((node): NodeDefinition => (node.name === name ? { ...node, ...options } : node));
  expect(nodes).not.toEqual(definition.nodes);
  return { ...definition, nodes };
}

/** The error of a network whose definition or weights are changed. */
async function errorOf(
  network: string,
  change: (definition: GraphDefinition) => GraphDefinition,
  weights?: (tensors: NamedTensor[]) => readonly NamedTensor[],
): Promise<number> {
  const { definition } = architecture(network).create(goldenLogits.cases[network]);
  const session = await recipeSession(change(definition), directory, {}, weights);
  const error = await logitsError(session, network);
  await session.close();
  return error;
}

const same = (definition: GraphDefinition) => definition;

/** A tensor whose values stand in another order: value number i is value number `from(i)` of what was there. */
function reordered(name: string, from: (index: number, shape: readonly number[]) => number) {
  return (tensors: NamedTensor[]) =>
    tensors.map((tensor) => {
      const values = tensor.values.map((_, index) => tensor.values[from(index, tensor.shape)] ?? Number.NaN);
      return tensor.name === name ? { ...tensor, values } : tensor;
    });
}

/** Two tensors that have each other's values. */
function exchanged(one: string, other: string) {
  return (tensors: NamedTensor[]) => {
    const valuesOf = (name: string) => tensors.find((tensor) => tensor.name === name)?.values ?? new Float32Array();
    const partner = new Map([
      [one, valuesOf(other)],
      [other, valuesOf(one)],
    ]);
    return tensors.map((tensor) => ({ ...tensor, values: partner.get(tensor.name) ?? tensor.values }));
  };
}

describe("a network that is wrong is told from PyTorch's", () => {
  const definitions: readonly [string, string, (definition: GraphDefinition) => GraphDefinition][] = [
    [
      "padding on the other sides of a strided convolution",
      "resnet20",
      (graph) => changed(graph, "layer2.0.conv1", { padding: [0, 1, 1, 0] }),
    ],
    [
      "padding of a pooling on the other sides",
      "resnet18",
      (graph) => changed(graph, "maxpool", { padding: [0, 1, 1, 0] }),
    ],
    ["BatchNorm's epsilon", "resnet20", (graph) => changed(graph, "bn1", { epsilon: 1e-3 })],
    [
      "BatchNorm's epsilon where it is not the usual one",
      "googlenet-torchvision",
      (graph) => changed(graph, "conv1.bn", { epsilon: 1e-5 }),
    ],
    [
      "zero channels before the others in option A's shortcut",
      "resnet20",
      (graph) => changed(graph, "layer2.0.downsample.1", { channels: [16, 0] }),
    ],
    [
      "a mean of four pixels in option A's shortcut",
      "resnet20",
      (graph) => changed(graph, "layer3.0.downsample.0", { size: [2, 2] }),
    ],
    [
      "a shortcut that is taken after the wrong layer",
      "resnet20",
      (graph) => changed(graph, "layer1.1.conv1", { inputs: ["layer1.0.bn2"] }),
    ],
    [
      "the stride of a bottleneck in its 1x1",
      "resnet50",
      (graph) => changed(changed(graph, "layer2.0.conv1", { stride: [2, 2] }), "layer2.0.conv2", { stride: [1, 1] }),
    ],
    ["a sigmoid for a ReLU", "lenet5", (graph) => changed(graph, "relu3", { op: "sigmoid" })],
    ["a larger window of a max-pooling", "googlenet", (graph) => changed(graph, "maxpool4", { size: [2, 2] })],
    ["LRN's alpha as of a mean", "alexnet", (graph) => changed(graph, "features.2", { alpha: 1e-4 })],
    ["LRN's k", "googlenet", (graph) => changed(graph, "norm1", { k: 1.01 })],
    [
      "branches in another order",
      "googlenet-torchvision",
      (graph) => {
        const inputs = graph.nodes.find(({ name }) => name === "inception4e")?.inputs ?? [];
        return changed(graph, "inception4e", { inputs: inputs.toReversed() });
      },
    ],
  ];
  test.each(definitions)("%s (%s)", async (_, network, change) => {
    expect(await errorOf(network, change)).toBeGreaterThan(1e-4);
  });

  const weights: readonly [string, string, (tensors: NamedTensor[]) => readonly NamedTensor[]][] = [
    [
      "a square dense weight transposed",
      "alexnet",
      reordered("classifier.4.weight", (index, [, size = 0]) => (index % size) * size + Math.floor(index / size)),
    ],
    [
      "a kernel with height and width exchanged",
      "lenet5",
      reordered("conv1.weight", (index) => index - (index % 25) + (index % 5) * 5 + (Math.floor(index / 5) % 5)),
    ],
    [
      "filters and channels of a convolution exchanged",
      "resnet20",
      reordered("layer1.0.conv1.weight", (index) => {
        const [filter, channel] = [Math.floor(index / 144), Math.floor(index / 9) % 16];
        return (channel * 16 + filter) * 9 + (index % 9);
      }),
    ],
    [
      "a flatten that is not permuted",
      "lenet5", // 5 x 5 pixels of 16 channels
      reordered("fc1.weight", (index) => {
        const column = index % 400;
        return index - column + (column % 16) * 25 + Math.floor(column / 16);
      }),
    ],
    [
      "BatchNorm's scale and variance exchanged",
      "mobilenet-0.25",
      exchanged("features.5.1.weight", "features.5.1.running_var"),
    ],
    ["BatchNorm's shift and mean exchanged", "resnet20", exchanged("layer2.1.bn1.bias", "layer2.1.bn1.running_mean")],
    [
      "a depthwise kernel turned by half",
      "mobilenet-0.25",
      reordered("features.1.0.weight", (index) => index - (index % 9) + 8 - (index % 9)),
    ],
  ];
  test.each(weights)("%s (%s)", async (_, network, change) => {
    expect(await errorOf(network, same, change)).toBeGreaterThan(1e-4);
  });

  test("and nothing else is", async () => {
    for (const network of ["lenet5", "resnet20", "mobilenet-0.25"]) {
      expect(await errorOf(network, same)).toBeLessThan(1e-5);
    }
  });
});
