/**
 * Sizing advice: the habits by which convolutional networks are commonly proportioned, held against a network.
 *
 * Sides that can be halved often; small odd kernels with stride 1, padded so that a convolution keeps height and width;
 * shrinking left to pooling, 2x2 with stride 2 or 3x3 with stride 2. Advice is never an error: many a famous network has
 * its reasons to do otherwise. Each piece names the layer, the numbers and a better choice.
 */
import type { GraphDefinition, LayerDescription, NodeDefinition, PaddingDefinition } from "../model/definition.js";
import type { MapShape, Shape } from "../model/shape.js";

/** One piece of advice. */
export interface Advice {
  /** The layer's name; `"input"` for the image. */
  readonly layer: string;
  /** What it is about, the same text for all advice of its kind. */
  readonly rule: string;
  /** One sentence. */
  readonly message: string;
}

/** Says what speaks against a layer, where something does. */
type Rule = (layer: LayerDescription) => string | undefined;

const layerRules: Readonly<Record<string, Rule>> = {
  "small-kernel": smallKernel,
  "convolution-stride": convolutionStride,
  "convolution-keeps-size": convolutionKeepsSize,
  "window-fits-evenly": windowFitsEvenly,
  "pooling-window": poolingWindow,
};

/** Advice on a network: on its input first, then in the order of its layers. */
export function advise({ input }: GraphDefinition, layers: readonly LayerDescription[]): readonly Advice[] {
  return [...adviseInput(input, layers), ...layers.flatMap(adviseLayer)];
}

function adviseLayer(layer: LayerDescription): readonly Advice[] {
  const { name } = layer.node;
  return Object.entries(layerRules).flatMap(([rule, objection]) => {
    const text = objection(layer);
    return text === undefined ? [] : [{ layer: name, rule, message: `"${name}" ${text}.` }];
  });
}

function adviseInput([height, width]: MapShape, layers: readonly LayerDescription[]): readonly Advice[] {
  const halvings = countHalvings(layers);
  const multiple = 2 ** halvings;
  const uneven = [...new Set([height, width])].filter((side) => side % multiple !== 0);
  return uneven.map((side) => {
    const below = side - (side % multiple);
    const better = below === 0 ? `${multiple}` : `${below} or ${below + multiple}`;
    const message =
      `The input side ${side} can be halved ${times(evenHalvings(side))} without a remainder, ` +
      `but the network shrinks it ${2 ** halvings}-fold: choose ${better}.`;
    return { layer: "input", rule: "input-divisible-by-2", message };
  });
}

/** How often the network halves its input: the base-2 logarithm of the strides along its most shrinking path. */
function countHalvings(layers: readonly LayerDescription[]): number {
  const shrinking = new Map<string, number>();
  for (const { node, input } of layers) {
    const before = Math.max(...node.inputs.map((name) => shrinking.get(name) ?? 1));
    shrinking.set(node.name, before * shrinkage(node, input));
  }
  return Math.floor(Math.log2(Math.max(1, ...shrinking.values())));
}

/** How many times as small a layer makes what it reads; below 1 where it enlarges. */
function shrinkage(node: NodeDefinition, input: Shape): number {
  if (node.op === "convTranspose") return 1 / Math.max(...node.stride);
  if (node.op === "upsample") return 1 / Math.max(...node.factor);
  // A mean of the whole map takes any side.
  if (!("stride" in node) || (node.op === "avgPool" && by(node.size) === by(input))) return 1;
  return Math.max(...node.stride);
}

function evenHalvings(side: number): number {
  return side % 2 === 0 ? 1 + evenHalvings(side / 2) : 0;
}

function smallKernel({ node }: LayerDescription): string | undefined {
  if (node.op !== "conv") return undefined;
  const { kernel } = node;
  const largest = Math.max(...kernel);
  if (largest > 5) {
    const small = kernel.map((size) => Math.min(size, 3));
    return `has a kernel of ${by(kernel)}: ${Math.ceil((largest - 1) / 2)} convolutions of ${by(small)} see as far`;
  }
  const odd = kernel.map((size) => size + 1 - (size % 2));
  if (by(odd) === by(kernel)) return undefined;
  return `has a kernel of ${by(kernel)}, which has no centre: choose ${by(odd)}`;
}

function convolutionStride({ node, input, output }: LayerDescription): string | undefined {
  if (node.op !== "conv" || Math.max(...node.stride) === 1) return undefined;
  return (
    `goes from ${by(input)} to ${by(output)} by its stride of ${by(node.stride)}: ` +
    "choose stride 1, and a max-pooling of 2x2 after it for each halving"
  );
}

function convolutionKeepsSize({ node, input, output }: LayerDescription): string | undefined {
  if (node.op !== "conv" || Math.max(...node.stride) > 1 || by(input) === by(output)) return undefined;
  const [vertical, horizontal] = [0, 1].map(
    (axis) => windowExtent(node.kernel[axis] ?? 1, node.dilation[axis] ?? 1) - 1,
  );
  return (
    `goes from ${by(input)} to ${by(output)}: padding "same", which is ${vertical} more rows and ${horizontal} more ` +
    `columns of zeros for its kernel of ${by(node.kernel)}, keeps ${by(input)}`
  );
}

/**
 * Pixels at the end that no window reaches, because the stride does not divide what the first window leaves. As many as
 * are skipped between two windows are left out on purpose.
 */
function windowFitsEvenly({ node, input }: LayerDescription): string | undefined {
  if (input.length !== 3 || !("stride" in node) || node.op === "convTranspose" || node.padding === "same")
    return undefined;
  const { padding, stride } = node;
  if ("ceilMode" in node && node.ceilMode) return undefined;
  const [window, dilation] = node.op === "conv" ? [node.kernel, node.dilation] : [node.size, [1, 1] as const];
  for (const axis of [0, 1] as const) {
    const [before, after] = zeros(padding, axis);
    const rest = before + input[axis] + after - windowExtent(window[axis], dilation[axis]);
    const skipped = Math.max(0, stride[axis] - windowExtent(window[axis], dilation[axis]));
    const unread = (rest % stride[axis]) - after - skipped;
    if (unread > 0) {
      const better = node.op === "conv" ? 'padding "same"' : "ceilMode";
      return (
        `leaves out the last ${unread} of ${input[axis]} ${axis === 0 ? "rows" : "columns"}, as its stride of ` +
        `${stride[axis]} does not divide ${rest}: choose ${better}, or an input side smaller by ${unread}`
      );
    }
  }
  return undefined;
}

/** A pooling that keeps the size, as in inception modules, is there for its maximum and not to shrink. */
function poolingWindow({ node, input, output }: LayerDescription): string | undefined {
  if (node.op !== "maxPool" || by(input) === by(output)) return undefined;
  const usual = ["2x2", "3x3"].includes(by(node.size)) && by(node.stride) === "2x2";
  if (usual) return undefined;
  return `takes windows of ${by(node.size)} with stride ${by(node.stride)}: choose 2x2 or 3x3 with stride 2x2`;
}

/** Height by width. */
function by(sizes: readonly number[]): string {
  return sizes.slice(0, 2).join("x");
}

function times(count: number): string {
  return count === 1 ? "once" : `${count} times`;
}

/** The pixels that a dilated window spans in one direction. */
function windowExtent(size: number, dilation: number): number {
  return dilation * (size - 1) + 1;
}

/** Explicit zeros before and after, in one direction; `"same"` has none: its zeros follow from the input. */
function zeros(padding: PaddingDefinition, axis: 0 | 1): readonly [before: number, after: number] {
  if (padding === "same" || padding === "valid") return [0, 0];
  const [top, right, bottom, left] = padding;
  return axis === 0 ? [top, bottom] : [left, right];
}
