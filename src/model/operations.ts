/** What each operation makes of its inputs: shapes and counts, and the errors of what does not fit. */
import { invalidArgument } from "../errors.js";
import { aboveZero, finite, invalidGraph, invalidShape, isWhole, notNegative, positive, text } from "./checks.js";
import type {
  AdaptiveAvgPoolDefinition,
  AffineDefinition,
  ArithmeticDefinition,
  AvgPoolDefinition,
  BatchNormDefinition,
  ClipDefinition,
  ConcatDefinition,
  ConvDefinition,
  ConvTransposeDefinition,
  DenseDefinition,
  DropoutDefinition,
  HardSigmoidDefinition,
  Initializer,
  LeakyReluDefinition,
  LocalResponseNormDefinition,
  MaxPoolDefinition,
  NodeDefinition,
  NodeDescription,
  PadDefinition,
  PlainDefinition,
  RadialBasisDefinition,
  ScaleDefinition,
  UpsampleDefinition,
} from "./definition.js";
import type { MapShape, Shape } from "./shape.js";
import { areSides, checkWindow, enlarge, slide, type Window, zeros } from "./window.js";

/** The engine's bound of the values in a tensor. */
const largestVolume = 2 ** 31;

/** The shape that a layer gives for the shapes that it reads, and its counts. */
export function describeNode(node: NodeDefinition, inputs: readonly Shape[]): NodeDescription {
  const description = describeOperation(node, inputs);
  const refuse = (what: string, received: string) => {
    const [input = description.output] = inputs;
    return invalidShape(`at most ${largestVolume} ${what} "${node.name}"`, received, input);
  };
  if (volume(description.output) > largestVolume) throw refuse("values from", text(description.output));
  if (description.parameters > largestVolume) throw refuse("parameters in", `${description.parameters}`);
  return description;
}

/** The number of values in a shape. */
export function volume(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

function describeOperation(node: NodeDefinition, inputs: readonly Shape[]): NodeDescription {
  switch (node.op) {
    case "add":
    case "subtract":
    case "multiply":
    case "divide":
      return weightless(describeArithmetic(node, inputs));
    case "concat":
      return weightless(describeConcat(node, inputs));
    default: {
      const [input] = inputs;
      if (input !== undefined && inputs.length === 1) return describeLayer(node, input);
      throw invalidGraph(`one input of "${node.name}"`, `${inputs.length}`);
    }
  }
}

/** A layer that reads one other. */
type Layer = Exclude<NodeDefinition, ArithmeticDefinition | ConcatDefinition>;

function describeLayer(node: Layer, input: Shape): NodeDescription {
  switch (node.op) {
    case "conv":
      return describeConv(node, mapInput(node, input));
    case "convTranspose":
      return describeConvTranspose(node, mapInput(node, input));
    case "dense":
      return describeDense(node, input);
    case "radialBasis":
      return weightless(describeRadialBasis(node, input));
    case "batchNorm":
      return describeBatchNorm(node, input);
    case "scale":
      return describeScale(node, input);
    case "prelu":
      return { output: input, parameters: node.shared ? 1 : channelsOf(input), multAdds: 0 };
    case "maxPool":
    case "avgPool":
      return weightless(describePool(node, mapInput(node, input)));
    case "globalAvgPool":
    case "globalMaxPool":
      return weightless([1, 1, mapInput(node, input)[2]]);
    case "adaptiveAvgPool":
      return weightless(describeAdaptivePool(node, mapInput(node, input)));
    case "upsample":
      return weightless(describeUpsample(node, mapInput(node, input)));
    case "pad":
      return weightless(describePad(node, mapInput(node, input)));
    case "flatten":
      return weightless([volume(mapInput(node, input))]);
    case "localResponseNorm":
      return weightless(describeLocalResponseNorm(node, mapInput(node, input)));
    case "dropout":
      return weightless(describeDropout(node, input));
    default:
      return weightless(describeActivation(node, input));
  }
}

/** A function of single values, or of the channels of a pixel. */
type Activation = LeakyReluDefinition | ClipDefinition | HardSigmoidDefinition | AffineDefinition | PlainDefinition;

function describeActivation(node: Activation, input: Shape): Shape {
  switch (node.op) {
    case "leakyRelu":
      notNegative(`${node.name}.slope`, node.slope);
      return input;
    case "clip":
      return checkClip(node, input);
    case "hardSigmoid":
      return checkLine(node, input, ["alpha", node.alpha], ["beta", node.beta]);
    case "affine":
      return checkLine(node, input, ["scale", node.scale], ["shift", node.shift]);
    case "relu":
    case "relu6":
    case "hardSwish":
    case "sigmoid":
    case "tanh":
    case "softmax":
    case "logSoftmax":
      return input;
    default:
      throw unknownOperation(node);
  }
}

function checkClip({ name, min, max }: ClipDefinition, input: Shape): Shape {
  finite(`${name}.min`, min);
  if (!(Number.isFinite(max) && max >= min))
    throw invalidArgument(`${name}.max`, "a finite number of at least min", max);
  return input;
}

function checkLine(
  { name }: HardSigmoidDefinition | AffineDefinition,
  input: Shape,
  ...numbers: readonly (readonly [string, number])[]
): Shape {
  for (const [option, value] of numbers) finite(`${name}.${option}`, value);
  return input;
}

/** For definitions that come from files. */
function unknownOperation({ name, op }: { readonly name: string; readonly op: string }) {
  return invalidGraph(`an operation that fovea has for "${name}"`, `"${op}"`);
}

function describeConv(node: ConvDefinition, input: MapShape): NodeDescription {
  const { name, filters, kernel, groups } = node;
  const channels = input[2];
  positive(`${name}.filters`, filters);
  positive(`${name}.groups`, groups);
  initializer(node);
  if (channels % groups !== 0)
    throw invalidShape(`channels divisible by ${groups} groups for "${name}"`, `${channels}`, input);
  if (filters % groups !== 0)
    throw invalidShape(`filters divisible by ${groups} groups for "${name}"`, `${filters}`, input);
  const window: Window = { ...node, option: "kernel", extent: kernel, ceilMode: false };
  checkWindow(window);
  const rows = slide(window, input, 0);
  const columns = slide(window, input, 1);
  const weights = connected(node, channels) * kernel[0] * kernel[1];
  return {
    output: [rows, columns, filters],
    parameters: weights + (node.bias ? filters : 0),
    multAdds: rows * columns * weights,
  };
}

/** Pairs of a filter and a channel that it sees. */
function connected({ name, filters, groups, connections }: ConvDefinition, channels: number): number {
  if (connections === undefined) return filters * (channels / groups);
  const fits = (list: readonly number[]) =>
    Array.isArray(list) &&
    list.length > 0 &&
    list.every((channel, at) => isWhole(channel) && channel < channels && channel > (list[at - 1] ?? -1));
  if (groups === 1 && connections?.length === filters && connections.every(fits)) return connections.flat().length;
  const expected = `an ascending list of some of ${channels} channels for each of ${filters} filters in one group`;
  throw invalidArgument(`${name}.connections`, expected, JSON.stringify(connections));
}

/** Its window slides over what it gives: each of the pixels that it reads adds a window of products. */
function describeConvTranspose(node: ConvTransposeDefinition, input: MapShape): NodeDescription {
  const { name, filters, kernel, groups, outputPadding, stride } = node;
  const channels = input[2];
  positive(`${name}.filters`, filters);
  positive(`${name}.groups`, groups);
  initializer(node);
  if (channels % groups !== 0)
    throw invalidShape(`channels divisible by ${groups} groups for "${name}"`, `${channels}`, input);
  if (filters % groups !== 0)
    throw invalidShape(`filters divisible by ${groups} groups for "${name}"`, `${filters}`, input);
  const window: Window = { ...node, option: "kernel", extent: kernel, ceilMode: false };
  checkWindow(window);
  for (const axis of [0, 1] as const) {
    const extra = outputPadding?.[axis];
    if (extra === undefined || !isWhole(extra) || extra >= stride[axis]) {
      throw invalidArgument(`${name}.outputPadding`, "whole numbers from 0 below the stride", outputPadding);
    }
  }
  const weights = channels * (filters / groups) * kernel[0] * kernel[1];
  return {
    output: [enlarge(window, input, 0, outputPadding[0]), enlarge(window, input, 1, outputPadding[1]), filters],
    parameters: weights + (node.bias ? filters : 0),
    multAdds: input[0] * input[1] * weights,
  };
}

function describeDense(node: DenseDefinition, input: Shape): NodeDescription {
  const size = vectorInput(node, input);
  positive(`${node.name}.units`, node.units);
  initializer(node);
  const weights = size * node.units;
  return { output: [node.units], parameters: weights + (node.bias ? node.units : 0), multAdds: weights };
}

function describeRadialBasis(node: RadialBasisDefinition, input: Shape): Shape {
  const size = vectorInput(node, input);
  const { name, codes } = node;
  positive(`${name}.codes.length`, codes?.length);
  for (const code of codes) {
    if (!(Array.isArray(code) && code.every(Number.isFinite))) {
      throw invalidArgument(`${name}.codes`, "lists of finite numbers", JSON.stringify(code));
    }
    if (code.length !== size) throw invalidShape(`codes of ${size} numbers for "${name}"`, `${code.length}`, input);
  }
  return [codes.length];
}

const initializers: readonly string[] = ["kaiming", "xavier", "lecun"] satisfies readonly Initializer[];

function initializer({ name, init }: ConvDefinition | ConvTransposeDefinition | DenseDefinition): void {
  if (!initializers.includes(init)) throw invalidArgument(`${name}.init`, initializers.join(" or "), init);
}

function describeBatchNorm({ name, epsilon, momentum }: BatchNormDefinition, input: Shape): NodeDescription {
  aboveZero(`${name}.epsilon`, epsilon);
  if (!(momentum >= 0 && momentum <= 1)) throw invalidArgument(`${name}.momentum`, "a number from 0 to 1", momentum);
  return { output: input, parameters: 2 * channelsOf(input), multAdds: 0 };
}

function describeScale({ bias }: ScaleDefinition, input: Shape): NodeDescription {
  return { output: input, parameters: channelsOf(input) * (bias ? 2 : 1), multAdds: 0 };
}

/** The channels of a feature map, or the values of a vector. */
function channelsOf(shape: Shape): number {
  return shape[shape.length - 1] ?? 0;
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
  return [slide(window, input, 0), slide(window, input, 1), input[2]];
}

function describeAdaptivePool({ name, size }: AdaptiveAvgPoolDefinition, input: MapShape): MapShape {
  return [...checkPair(`${name}.size`, size), input[2]];
}

function describeUpsample({ name, factor }: UpsampleDefinition, [h, w, c]: MapShape): MapShape {
  const [down, right] = checkPair(`${name}.factor`, factor);
  return [h * down, w * right, c];
}

function checkPair(name: string, pair: readonly [number, number]): readonly [number, number] {
  if (pair?.length !== 2) throw invalidArgument(name, "a number or [height, width]", pair);
  for (const each of pair) positive(name, each);
  return pair;
}

function describePad({ name, padding, channels }: PadDefinition, [h, w, c]: MapShape): MapShape {
  if (!areSides(padding)) throw invalidArgument(`${name}.padding`, "whole numbers from 0", padding);
  if (!(channels?.length === 2 && channels.every(isWhole))) {
    throw invalidArgument(`${name}.channels`, "[before, after], whole numbers from 0", channels);
  }
  const [top, right, bottom, left] = padding;
  return [top + h + bottom, left + w + right, channels[0] + c + channels[1]];
}

function describeLocalResponseNorm(node: LocalResponseNormDefinition, input: MapShape): MapShape {
  const { name, size, alpha, beta, k } = node;
  positive(`${name}.size`, size);
  notNegative(`${name}.alpha`, alpha);
  notNegative(`${name}.beta`, beta);
  aboveZero(`${name}.k`, k);
  return input;
}

function describeDropout({ name, rate }: DropoutDefinition, input: Shape): Shape {
  if (!(rate >= 0 && rate < 1)) throw invalidArgument(`${name}.rate`, "a number from 0 to below 1", rate);
  return input;
}

function describeArithmetic({ name, op }: ArithmeticDefinition, inputs: readonly Shape[]): Shape {
  const [first, second] = inputs;
  if (first === undefined || second === undefined || inputs.length > 2) {
    throw invalidGraph(`two inputs of "${name}"`, `${inputs.length}`);
  }
  if (text(first) === text(second)) return first;
  const factors = [`[1, 1, ${first[2]}]`, `[${first[2]}]`];
  if (op === "multiply" && first.length === 3 && factors.includes(text(second))) return first;
  const expected = op === "multiply" ? "equal shapes, or a factor for each channel," : "equal shapes";
  throw invalidShape(`${expected} for "${name}"`, `${text(first)} and ${text(second)}`);
}

function describeConcat({ name }: ConcatDefinition, inputs: readonly Shape[]): Shape {
  const [first, second] = inputs;
  if (first === undefined || second === undefined) {
    throw invalidGraph(`two inputs or more of "${name}"`, `${inputs.length}`);
  }
  const channels = inputs.reduce((sum, shape) => sum + channelsOf(shape), 0);
  if (first.length === 1) {
    const map = inputs.find((shape) => shape.length !== 1);
    if (map) throw invalidShape(`vectors for "${name}"`, text(map));
    return [channels];
  }
  const [height, width] = first;
  const unequal = inputs.find((shape) => shape.length !== 3 || shape[0] !== height || shape[1] !== width);
  if (unequal) throw invalidShape(`equal heights and widths for "${name}"`, `${text(first)} and ${text(unequal)}`);
  return [height, width, channels];
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
