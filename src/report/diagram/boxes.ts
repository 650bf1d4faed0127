/** What a diagram shows: a network's layers in boxes, a convolution together with what only it is read by. */
import { ancestors, describe, type GraphDefinition, type LayerDescription } from "../../model/definition.js";

/** What a box is coloured by. */
export type Kind = "input" | "convolution" | "dense" | "pooling" | "join" | "other" | "output";

/** One or several layers in a row. */
export interface Box {
  /** Its first layer's name; the input is `"input"`. */
  readonly name: string;
  readonly kind: Kind;
  /** From top to bottom; the first is the name. */
  readonly lines: readonly string[];
  /** Whether it belongs to an auxiliary head. */
  readonly auxiliary: boolean;
}

/** What one box reads of another. */
export interface Arrow {
  readonly from: string;
  readonly to: string;
  /** Whether it is a shortcut: what a sum adds to its first summand. */
  readonly shortcut: boolean;
}

/** Boxes in topological order. */
export interface BoxGraph {
  readonly boxes: readonly Box[];
  readonly arrows: readonly Arrow[];
}

/** Operations that begin a box; all others stand in that of the layer which they read, if nothing else reads it. */
const kinds: Readonly<Record<string, Kind>> = {
  conv: "convolution",
  convTranspose: "convolution",
  dense: "dense",
  radialBasis: "dense",
  maxPool: "pooling",
  avgPool: "pooling",
  adaptiveAvgPool: "pooling",
  globalAvgPool: "pooling",
  globalMaxPool: "pooling",
  upsample: "pooling",
  add: "join",
  subtract: "join",
  multiply: "join",
  divide: "join",
  concat: "join",
};

const words: Readonly<Record<string, string>> = {
  batchNorm: "BatchNorm",
  groupNorm: "GroupNorm",
  layerNorm: "LayerNorm",
  localResponseNorm: "LRN",
  relu: "ReLU",
  relu6: "ReLU6",
  leakyRelu: "leaky ReLU",
  prelu: "PReLU",
  hardSigmoid: "hard sigmoid",
  hardSwish: "hard swish",
  silu: "SiLU",
  gelu: "GELU",
  logSoftmax: "log softmax",
  globalAvgPool: "global average pool",
  globalMaxPool: "global max pool",
  maxPool: "max pool",
  avgPool: "average pool",
  adaptiveAvgPool: "adaptive average pool",
  convTranspose: "transposed conv",
  radialBasis: "radial basis",
};

/** The boxes of a network. */
export function boxGraph(definition: GraphDefinition): BoxGraph {
  const layers = describe(definition);
  const readers = countReaders(definition);
  const outputs = new Map(definition.outputs.map(({ node, lossWeight }) => [node, lossWeight]));
  const predicting = ancestors(
    definition.nodes,
    definition.outputs.slice(0, 1).map(({ node }) => node),
  );
  const groups: LayerDescription[][] = [];
  const home = new Map<string, LayerDescription[]>();
  for (const layer of layers) {
    const { node } = layer;
    const [read = "", ...others] = node.inputs;
    const producer = home.get(read);
    const joins = kinds[node.op] === undefined && others.length === 0 && readers.get(read) === 1 && !outputs.has(read);
    const group = joins && producer ? producer : [];
    if (group.length === 0) groups.push(group);
    group.push(layer);
    home.set(node.name, group);
  }
  const nameOf = (layer: string) => home.get(layer)?.[0]?.node.name ?? "input";
  const boxes = groups.map((group) => layerBox(group, !predicting.has(nameOfGroup(group))));
  const arrows = groups.flatMap((group) =>
    group.slice(0, 1).flatMap(({ node }) =>
      node.inputs.map((input, index) => {
        return { from: nameOf(input), to: node.name, shortcut: node.op === "add" && index > 0 };
      }),
    ),
  );
  const ends = [...outputs].map(([node, lossWeight], index): { box: Box; arrow: Arrow } => {
    const name = `output of ${node}`;
    const line = index === 0 ? "output" : `auxiliary output, loss × ${lossWeight}`;
    return {
      box: { name, kind: "output", lines: [line], auxiliary: index > 0 },
      arrow: { from: nameOf(node), to: name, shortcut: false },
    };
  });
  const image: Box = { name: "input", kind: "input", lines: ["input", sizes(definition.input)], auxiliary: false };
  return {
    boxes: [image, ...boxes, ...ends.map(({ box }) => box)],
    arrows: [...arrows, ...ends.map(({ arrow }) => arrow)],
  };
}

function nameOfGroup(group: readonly LayerDescription[]): string {
  return group[0]?.node.name ?? "input";
}

/** How many layers read each. */
function countReaders({ nodes }: GraphDefinition): ReadonlyMap<string, number> {
  const readers = new Map<string, number>();
  for (const input of nodes.flatMap(({ inputs }) => inputs)) readers.set(input, (readers.get(input) ?? 0) + 1);
  return readers;
}

function layerBox(group: readonly LayerDescription[], auxiliary: boolean): Box {
  const first = group[0]?.node;
  const parameters = group.reduce((sum, layer) => sum + layer.parameters, 0);
  const counted = parameters === 0 ? "" : ` · ${parameters.toLocaleString("en-US")} parameters`;
  return {
    name: nameOfGroup(group),
    kind: kinds[first?.op ?? ""] ?? "other",
    lines: [nameOfGroup(group), group.map(describeLayer).join(" · "), `${sizes(group.at(-1)?.output ?? [])}${counted}`],
    auxiliary,
  };
}

function describeLayer({ node, input, output }: LayerDescription): string {
  const word = words[node.op] ?? node.op;
  switch (node.op) {
    case "conv": {
      const [, , channels = 0] = input;
      const { groups, kernel, stride, filters } = node;
      if (groups > 1 && groups === channels) return `depthwise conv ${pair(kernel)}${stepping(stride)}`;
      return `conv ${pair(kernel)}, ${filters}${stepping(stride)}${groups > 1 ? `, ${groups} groups` : ""}`;
    }
    case "convTranspose":
      return `${word} ${pair(node.kernel)}, ${node.filters}${stepping(node.stride)}`;
    case "dense":
      return `dense ${node.units}`;
    case "maxPool":
    case "avgPool":
      return `${word} ${pair(node.size)}${stepping(node.stride)}`;
    case "adaptiveAvgPool":
      return `${word} to ${pair(node.size)}`;
    case "upsample":
      return `enlarge ${pair(node.factor)}`;
    case "clip":
      return `clip ${node.min} to ${node.max}`;
    case "dropout":
      return `dropout ${node.rate}`;
    case "pad":
      return node.channels.some((zeros) => zeros > 0) ? `zeros to ${output.at(-1)} channels` : "pad";
    default:
      return word;
  }
}

function pair([height, width]: readonly [number, number]): string {
  return `${height} × ${width}`;
}

function stepping([down, right]: readonly [number, number]): string {
  if (down === 1 && right === 1) return "";
  return `, stride ${down === right ? down : pair([down, right])}`;
}

function sizes(shape: readonly number[]): string {
  return shape.join(" × ");
}
