/**
 * The graph definition: a network as plain data, which the typed builder writes, the engine reads and checkpoints hold.
 *
 * {@link describe} tells each layer's shapes and counts, as the engine knows them, and rejects sizes which the
 * compiler could not know; the types of shape.ts say the same where it does.
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
import { invalidShape, positive, text } from "./checks.js";
import { describeNodes } from "./operations.js";
import type { MapShape, Shape } from "./shape.js";

/**
 * How weights begin, from what a value is summed from (inputs) and goes to (outputs): `"kaiming"` uniform within
 * sqrt(6 / inputs) (He 2015), `"xavier"` uniform within sqrt(6 / (inputs + outputs)) (Glorot 2010), `"lecun"` uniform within
 * 2.4 / inputs (LeCun 1998, appendix A). Biases begin at 0.
 */
export type Initializer = "kaiming" | "xavier" | "lecun";

/** Zeros on each of the four sides, in pixels. */
export type Sides = readonly [top: number, right: number, bottom: number, left: number];

/** Padding as the engine reads it: a plain number is written out for the four sides. */
export type PaddingDefinition = "same" | "valid" | Sides;

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
  /** The input channels of each filter, ascending; all of them where there is no list. Other weights are 0 and stay 0. */
  readonly connections?: readonly (readonly number[])[];
}

/** Files have its weight as [channels read, filters / groups, height, width], as PyTorch's. */
export interface ConvTransposeDefinition extends NodeBase {
  readonly op: "convTranspose";
  readonly filters: number;
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: PaddingDefinition;
  readonly outputPadding: readonly [number, number];
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

/** Parameters NAME.weight and NAME.bias; beside them in files NAME.running_mean and NAME.running_var. */
export interface BatchNormDefinition extends NodeBase {
  readonly op: "batchNorm";
  readonly epsilon: number;
  readonly momentum: number;
}

/** Parameters NAME.weight and NAME.bias. */
export interface GroupNormDefinition extends NodeBase {
  readonly op: "groupNorm";
  readonly groups: number;
  readonly epsilon: number;
}

/** Parameters NAME.weight and NAME.bias. */
export interface LayerNormDefinition extends NodeBase {
  readonly op: "layerNorm";
  readonly epsilon: number;
}

/** Parameters NAME.weight and, with a bias, NAME.bias. */
export interface ScaleDefinition extends NodeBase {
  readonly op: "scale";
  readonly bias: boolean;
}

/** Parameter NAME.weight. */
export interface PreluDefinition extends NodeBase {
  readonly op: "prelu";
  readonly shared: boolean;
}

export interface AdaptiveAvgPoolDefinition extends NodeBase {
  readonly op: "adaptiveAvgPool";
  readonly size: readonly [number, number];
}

export interface UpsampleDefinition extends NodeBase {
  readonly op: "upsample";
  readonly factor: readonly [number, number];
}

export interface LocalResponseNormDefinition extends NodeBase {
  readonly op: "localResponseNorm";
  readonly size: number;
  readonly alpha: number;
  readonly beta: number;
  readonly k: number;
}

export interface DropoutDefinition extends NodeBase {
  readonly op: "dropout";
  readonly rate: number;
}

export interface LeakyReluDefinition extends NodeBase {
  readonly op: "leakyRelu";
  readonly slope: number;
}

export interface ClipDefinition extends NodeBase {
  readonly op: "clip";
  readonly min: number;
  readonly max: number;
}

export interface HardSigmoidDefinition extends NodeBase {
  readonly op: "hardSigmoid";
  readonly alpha: number;
  readonly beta: number;
}

export interface AffineDefinition extends NodeBase {
  readonly op: "affine";
  readonly scale: number;
  readonly shift: number;
}

export interface RadialBasisDefinition extends NodeBase {
  readonly op: "radialBasis";
  /** For each unit a number for each value that it reads. */
  readonly codes: readonly (readonly number[])[];
}

export interface PadDefinition extends NodeBase {
  readonly op: "pad";
  readonly padding: Sides;
  readonly channels: readonly [before: number, after: number];
}

/** Reads two layers of one shape; the second factor of a product may be a number for each channel. */
export interface ArithmeticDefinition extends NodeBase {
  readonly op: "add" | "subtract" | "multiply" | "divide";
}

/** Reads two layers or more, of one height and width. */
export interface ConcatDefinition extends NodeBase {
  readonly op: "concat";
}

export interface PlainDefinition extends NodeBase {
  readonly op:
    | "relu"
    | "relu6"
    | "hardSwish"
    | "silu"
    | "gelu"
    | "sigmoid"
    | "tanh"
    | "softmax"
    | "logSoftmax"
    | "flatten"
    | "globalAvgPool"
    | "globalMaxPool";
}

/** One layer of a graph; `op` tells which. */
export type NodeDefinition =
  | ConvDefinition
  | ConvTransposeDefinition
  | DenseDefinition
  | MaxPoolDefinition
  | AvgPoolDefinition
  | AdaptiveAvgPoolDefinition
  | UpsampleDefinition
  | BatchNormDefinition
  | GroupNormDefinition
  | LayerNormDefinition
  | ScaleDefinition
  | LocalResponseNormDefinition
  | DropoutDefinition
  | LeakyReluDefinition
  | PreluDefinition
  | ClipDefinition
  | HardSigmoidDefinition
  | AffineDefinition
  | RadialBasisDefinition
  | PadDefinition
  | ArithmeticDefinition
  | ConcatDefinition
  | PlainDefinition;

/**
 * How an output is judged, by the class of an image or by values in the output's shape.
 *
 * | kind | loss of an image with outputs x and targets t (1 for the class, 0 for the others) |
 * |---|---|
 * | `crossEntropy` | -sum of t log softmax(x); PyTorch's `cross_entropy` |
 * | `binaryCrossEntropy` | mean of log(1 + e^x) - t x; PyTorch's `binary_cross_entropy_with_logits` |
 * | `meanSquaredError` | mean of (x - t)^2; PyTorch's `mse_loss` |
 * | `maximumAPosteriori` | -x of the class + log(e^-rejection + sum of e^x); LeCun et al. 1998, equation 9 |
 */
export type LossDefinition =
  | { readonly kind: "crossEntropy" | "binaryCrossEntropy" | "meanSquaredError" }
  | { readonly kind: "maximumAPosteriori"; readonly rejection: number };

/** A layer that a network ends in. */
export interface OutputDefinition {
  readonly node: string;
  /** Factor of its loss in training. */
  readonly lossWeight: number;
  /** How it is judged. Default cross-entropy, as in files that are older than the choice; the builder always says. */
  readonly loss?: LossDefinition;
}

/**
 * A network: nodes in topological order, their names unique. The first output is what it predicts; further ones are
 * auxiliary heads, which exist in training only.
 */
export interface GraphDefinition {
  readonly name: string;
  readonly input: MapShape;
  readonly nodes: readonly NodeDefinition[];
  readonly outputs: readonly OutputDefinition[];
}

/** What one layer makes of its inputs, for one image. */
export interface NodeDescription {
  readonly output: Shape;
  /** What training changes: weights and biases. */
  readonly parameters: number;
  /** Multiplications, each with its addition, of convolutions, transposed or not, and dense layers. */
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
 * @param definition a graph; nothing in it is taken for granted
 * @returns one description a node, in the graph's order
 * @throws FoveaError `INVALID_SHAPE` where a layer does not fit its input, `INVALID_ARGUMENT` where an option is out of
 * range, `INVALID_GRAPH` where names do not lead to layers, `NO_BINARY` where no native binary fits
 * @example
 * ```ts
 * import { describe, zoo } from "fovea";
 *
 * const [conv1] = describe(zoo.lenet5().definition);
 * console.log(conv1?.output, conv1?.parameters, conv1?.multAdds); // [ 28, 28, 6 ] 156 117600
 * ```
 */
export function describe(definition: GraphDefinition): readonly LayerDescription[] {
  if (Array.isArray(definition.input)) for (const size of definition.input) positive("input", size);
  const layers = describeNodes(definition);
  const shapeOf = (name: string): string => text(layers.find(({ node }) => node.name === name)?.output ?? []);
  const [prediction] = definition.outputs.map(({ node }) => shapeOf(node));
  const unlike = definition.outputs.find(({ node }) => shapeOf(node) !== prediction);
  if (unlike === undefined) return layers;
  throw invalidShape(`an output of ${prediction} from "${unlike.node}"`, shapeOf(unlike.node));
}

/** The names of all that leads to these outputs: layers, and `"input"`. */
export function ancestors(nodes: readonly NodeDefinition[], outputs: readonly string[]): ReadonlySet<string> {
  const needed = new Set(outputs);
  for (const node of nodes.toReversed()) {
    if (needed.has(node.name)) for (const input of node.inputs) needed.add(input);
  }
  return needed;
}
