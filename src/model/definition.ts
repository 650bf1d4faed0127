/**
 * The graph definition: a network as plain data, which the typed builder writes, the engine reads and checkpoints hold.
 *
 * {@link describe} walks a definition and tells each layer's shapes and counts. It is the run-time twin of the types in
 * shape.ts, and the place that rejects sizes which the compiler could not know.
 *
 * What introduces convolutional networks can be counted here. A dense neuron reads every pixel, a filter only its window,
 * and the same weights serve every place of the image:
 *
 * | layer | input | weights |
 * |---|---|---|
 * | one dense neuron | 32 x 32 x 3 (CIFAR-10) | 3,072 |
 * | one dense neuron | 64 x 64 x 3 | 12,288 |
 * | five filters of 5 x 5 x 3 | any height and width, 3 channels | 375 |
 */
import { FoveaError, invalidArgument } from "../errors.js";
import type { MapShape, Shape } from "./shape.js";

/**
 * How weights begin, from what a value is summed from (inputs) and goes to (outputs): `"kaiming"` uniform within
 * sqrt(6 / inputs) (He 2015), `"xavier"` uniform within sqrt(6 / (inputs + outputs)) (Glorot 2010). Biases begin at 0.
 */
export type Initializer = "kaiming" | "xavier";

/** Padding as the engine reads it: a plain number is written out for the four sides. */
export type PaddingDefinition = "same" | "valid" | readonly [top: number, right: number, bottom: number, left: number];

/** The engine's bounds: of a size, and of the values in a tensor. */
const largestSize = 2 ** 20;
const largestVolume = 2 ** 31;

interface NodeBase {
  readonly name: string;
  /** Names of the nodes read; `"input"` is the image. */
  readonly inputs: readonly string[];
}

interface PoolBase extends NodeBase {
  readonly size: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: PaddingDefinition;
  readonly ceilMode: boolean;
}

export interface ConvDefinition extends NodeBase {
  readonly op: "conv";
  readonly filters: number;
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: PaddingDefinition;
  readonly dilation: readonly [number, number];
  readonly groups: number;
  readonly bias: boolean;
  readonly init: Initializer;
}

export interface DenseDefinition extends NodeBase {
  readonly op: "dense";
  readonly units: number;
  readonly bias: boolean;
  readonly init: Initializer;
}

export interface MaxPoolDefinition extends PoolBase {
  readonly op: "maxPool";
}

export interface AvgPoolDefinition extends PoolBase {
  readonly op: "avgPool";
  readonly countIncludePad: boolean;
}

export interface PlainDefinition extends NodeBase {
  readonly op: "relu" | "tanh" | "softmax" | "flatten";
}

/** One layer of a graph; `op` tells which. */
export type NodeDefinition = ConvDefinition | DenseDefinition | MaxPoolDefinition | AvgPoolDefinition | PlainDefinition;

/** A network: nodes in topological order, their names unique. */
export interface GraphDefinition {
  readonly name: string;
  readonly input: MapShape;
  readonly nodes: readonly NodeDefinition[];
  readonly outputs: readonly { readonly node: string; readonly lossWeight: number }[];
}

/** What one layer makes of its inputs, for one image. */
export interface NodeDescription {
  readonly output: Shape;
  /** Weights and biases. */
  readonly parameters: number;
  /** Multiplications, each with its addition, of convolutions and dense layers. */
  readonly multAdds: number;
}

/** A layer together with its shapes and counts. */
export interface LayerDescription extends NodeDescription {
  readonly node: NodeDefinition;
  readonly input: Shape;
}

/**
 * Shapes and counts of every layer.
 *
 * @param definition a graph; nothing in it is taken for granted but its structure
 * @returns one description a node, in the graph's order
 * @throws FoveaError `INVALID_SHAPE` where a layer does not fit its input, `INVALID_ARGUMENT` where an option is out of
 * range, `INVALID_GRAPH` where names do not lead to layers
 * @example
 * ```ts
 * import { describe, zoo } from "fovea";
 *
 * const [conv1] = describe(zoo.lenet5().definition);
 * console.log(conv1?.output, conv1?.parameters, conv1?.multAdds); // [ 28, 28, 6 ] 156 117600
 * ```
 */
export function describe(definition: GraphDefinition): readonly LayerDescription[] {
  for (const size of definition.input) positive("input", size);
  const shapes = new Map<string, Shape>([["input", definition.input]]);
  const layers: LayerDescription[] = [];
  for (const node of definition.nodes) {
    const inputs = node.inputs.map((name) => {
      const shape = shapes.get(name);
      if (shape === undefined) throw invalidGraph(`an earlier layer as input of "${node.name}"`, `"${name}"`);
      return shape;
    });
    const description = describeNode(node, inputs);
    if (shapes.has(node.name)) throw invalidGraph("each layer's name once", `"${node.name}" again`);
    shapes.set(node.name, description.output);
    layers.push({ node, input: inputs[0] ?? definition.input, ...description });
  }
  for (const { node } of definition.outputs) {
    if (node === "input" || !shapes.has(node)) throw invalidGraph("a layer as output", `"${node}"`);
  }
  return layers;
}

/** The shape that a layer gives for the shapes that it reads, and its counts. */
export function describeNode(node: NodeDefinition, inputs: readonly Shape[]): NodeDescription {
  const [input] = inputs;
  if (input === undefined || inputs.length > 1) throw invalidGraph(`one input of "${node.name}"`, `${inputs.length}`);
  const description = describeOperation(node, input);
  if (volume(description.output) > largestVolume) {
    throw invalidShape(`at most ${largestVolume} values from "${node.name}"`, text(description.output), input);
  }
  if (description.parameters > largestVolume) {
    throw invalidShape(`at most ${largestVolume} parameters in "${node.name}"`, `${description.parameters}`, input);
  }
  return description;
}

function describeOperation(node: NodeDefinition, input: Shape): NodeDescription {
  switch (node.op) {
    case "conv":
      return describeConv(node, mapInput(node, input));
    case "dense":
      return describeDense(node, input);
    case "maxPool":
    case "avgPool":
      return weightless(describePool(node, mapInput(node, input)));
    case "flatten":
      return weightless([volume(mapInput(node, input))]);
    case "relu":
    case "tanh":
    case "softmax":
      return weightless(input);
    default:
      throw unknownOperation(node);
  }
}

/** For definitions that come from files. */
function unknownOperation({ name, op }: { readonly name: string; readonly op: string }): FoveaError {
  return invalidGraph(`an operation that fovea has for "${name}"`, `"${op}"`);
}

function describeConv(node: ConvDefinition, input: MapShape): NodeDescription {
  const { name, filters, kernel, groups } = node;
  const [height, width, channels] = input;
  positive(`${name}.filters`, filters);
  positive(`${name}.groups`, groups);
  initializer(node);
  if (channels % groups !== 0)
    throw invalidShape(`channels divisible by ${groups} groups for "${name}"`, `${channels}`, input);
  if (filters % groups !== 0)
    throw invalidShape(`filters divisible by ${groups} groups for "${name}"`, `${filters}`, input);
  const window: Window = { ...node, option: "kernel", extent: kernel, ceilMode: false };
  checkWindow(window);
  const rows = slide(window, input, height, 0);
  const columns = slide(window, input, width, 1);
  const weights = filters * (channels / groups) * kernel[0] * kernel[1];
  return {
    output: [rows, columns, filters],
    parameters: weights + (node.bias ? filters : 0),
    multAdds: rows * columns * weights,
  };
}

function describeDense(node: DenseDefinition, input: Shape): NodeDescription {
  const size = vectorInput(node, input);
  positive(`${node.name}.units`, node.units);
  initializer(node);
  const weights = size * node.units;
  return { output: [node.units], parameters: weights + (node.bias ? node.units : 0), multAdds: weights };
}

function describePool(node: MaxPoolDefinition | AvgPoolDefinition, input: MapShape): MapShape {
  const { name, size, padding } = node;
  const window: Window = { ...node, option: "size", extent: size, dilation: [1, 1] };
  checkWindow(window);
  for (const axis of [0, 1] as const) {
    const largest = Math.max(...(padding === "same" ? [0] : zeros(padding, axis)));
    if (largest >= size[axis]) {
      throw invalidShape(`padding below the window of ${size[axis]} for "${name}"`, `${largest}`, input);
    }
  }
  return [slide(window, input, input[0], 0), slide(window, input, input[1], 1), input[2]];
}

/** What convolution and pooling have in common. */
interface Window {
  readonly name: string;
  /** What the layer calls its window. */
  readonly option: "kernel" | "size";
  readonly extent: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: PaddingDefinition;
  readonly dilation: readonly [number, number];
  readonly ceilMode: boolean;
}

/** Options may be missing altogether where a definition comes from a file, or a call from JavaScript. */
function checkWindow({ name, option, extent, stride, padding, dilation }: Window): void {
  for (const [label, pair] of [
    [option, extent],
    ["stride", stride],
    ["dilation", dilation],
  ] as const) {
    if (pair?.length !== 2) throw invalidArgument(`${name}.${label}`, "a number or [height, width]", pair);
    for (const each of pair) positive(`${name}.${label}`, each);
  }
  if (padding === "same" || padding === "valid") return;
  if (typeof padding === "string" || padding?.length !== 4 || !padding.every(isWhole)) {
    throw invalidArgument(`${name}.padding`, '"same", "valid", or whole numbers from 0', padding);
  }
}

/** The number of windows in one direction; the formula of `Slide` in shape.ts. */
function slide(window: Window, input: MapShape, size: number, axis: 0 | 1): number {
  const stride = window.stride[axis];
  if (window.padding === "same") return Math.ceil(size / stride);
  const [before, after] = zeros(window.padding, axis);
  const padded = before + size + after;
  const extent = windowExtent(window.extent[axis], window.dilation[axis]);
  if (extent > padded) throw windowTooLarge(window, input, padded, axis);
  if (!window.ceilMode) return Math.floor((padded - extent) / stride) + 1;
  const count = Math.ceil((padded - extent) / stride) + 1;
  return (count - 1) * stride >= before + size ? count - 1 : count;
}

function windowTooLarge(window: Window, input: MapShape, padded: number, axis: 0 | 1): FoveaError {
  const { name, option, padding } = window;
  const size = window.extent[axis];
  const dilation = window.dilation[axis];
  const spread = dilation === 1 ? "" : ` with dilation ${dilation}, which spans ${windowExtent(size, dilation)}`;
  const sides = zeros(padding, axis).some((each) => each > 0) ? `, padding ${text(padding)}` : "";
  return new FoveaError(
    "INVALID_SHAPE",
    `Expected a window of at most ${padded} for "${name}" but received a ${option} of ${size}${spread} ` +
      `(input ${text(input)}${sides}).`,
  );
}

/** The pixels that a dilated window spans in one direction. */
export function windowExtent(size: number, dilation: number): number {
  return dilation * (size - 1) + 1;
}

/** Explicit zeros before and after, in one direction; `"same"` has none of these, its zeros follow from the input. */
export function zeros(padding: PaddingDefinition, axis: 0 | 1): readonly [before: number, after: number] {
  if (padding === "same" || padding === "valid") return [0, 0];
  const [top, right, bottom, left] = padding;
  return axis === 0 ? [top, bottom] : [left, right];
}

/** The number of values in a shape. */
export function volume(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

function weightless(output: Shape): NodeDescription {
  return { output, parameters: 0, multAdds: 0 };
}

function mapInput(node: NodeDefinition, input: Shape): MapShape {
  if (input.length === 3) return input;
  throw invalidShape(`a feature map for "${node.name}"`, "a vector", input);
}

function vectorInput(node: NodeDefinition, input: Shape): number {
  if (input.length === 1) return input[0];
  throw invalidShape(`a vector for "${node.name}"`, "a feature map, which flatten makes one", input);
}

/** @throws FoveaError unless a size, count or step is a whole number from 1 that the engine takes. */
export function positive(name: string, value: number): void {
  if (!isWhole(value) || value < 1) throw invalidArgument(name, `a whole number from 1 to ${largestSize}`, value);
}

function isWhole(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= largestSize;
}

function initializer({ name, init }: ConvDefinition | DenseDefinition): void {
  if (init !== "kaiming" && init !== "xavier") throw invalidArgument(`${name}.init`, '"kaiming" or "xavier"', init);
}

function invalidShape(expected: string, received: string, input: Shape): FoveaError {
  return new FoveaError("INVALID_SHAPE", `Expected ${expected} but received ${received} (input ${text(input)}).`);
}

function invalidGraph(expected: string, received: string): FoveaError {
  return new FoveaError("INVALID_GRAPH", `Expected ${expected} but received ${received}.`);
}

function text(sizes: readonly number[] | string): string {
  return typeof sizes === "string" ? sizes : `[${sizes.join(", ")}]`;
}
