/** The options of layers. */
import type { Initializer } from "./definition.js";
import type { Padding, Pair } from "./shape.js";

/** Options of every layer. */
export interface LayerOptions {
  /** Names the layer in files, summaries and messages. Default: its operation and a number, such as `conv1`. */
  readonly name?: string;
}

/** Options of layers that have weights. */
export interface WeightOptions extends LayerOptions {
  /** A constant added to each output, learnt with the weights. Default true. */
  readonly bias?: boolean;
  /** How weights begin. Default `"kaiming"`. */
  readonly init?: Initializer;
}

/** Options of `depthwiseConv`. */
export interface DepthwiseConvOptions<S extends Pair, P extends Padding, D extends Pair> extends WeightOptions {
  /** Pixels from one window to the next. Default 1. */
  readonly stride?: S;
  /** Zeros around the input. Default `"valid"`: none. */
  readonly padding?: P;
  /** Pixels from one weight of a window to the next. Default 1. */
  readonly dilation?: D;
}

/** Options of `conv`. */
export interface ConvOptions<S extends Pair, P extends Padding, D extends Pair, G extends number>
  extends DepthwiseConvOptions<S, P, D> {
  /** Parts into which channels and filters are divided, each convolved apart. Default 1. */
  readonly groups?: G;
  /** The channels that each filter sees, ascending: weights of others do not exist. Default: all. */
  readonly connections?: readonly (readonly number[])[] | undefined;
}

/** Options of `convTranspose`. */
export interface ConvTransposeOptions<
  S extends Pair,
  P extends Padding,
  D extends Pair,
  O extends Pair,
  G extends number,
> extends WeightOptions {
  /** Pixels of the result from one pixel of the input to the next. Default 1. */
  readonly stride?: S;
  /** Pixels taken away from the result's sides; `"same"` leaves the input's size times the stride. Default `"valid"`: none. */
  readonly padding?: P;
  /** Pixels from one weight of a window to the next. Default 1. */
  readonly dilation?: D;
  /** Pixels added to the result at the bottom and right, fewer than the stride. Default 0. */
  readonly outputPadding?: O;
  /** Parts into which channels and filters are divided, each convolved apart. Default 1. */
  readonly groups?: G;
}

/** Options of the pooling layers. */
export interface PoolOptions<S extends Pair, P extends Padding, Ceil extends boolean> extends LayerOptions {
  /** Pixels from one window to the next. Default: the window's size. */
  readonly stride?: S;
  /** Pixels around the input, fewer than the window has. Default `"valid"`: none. */
  readonly padding?: P;
  /** Whether a window may reach beyond the input's end, if it begins inside. Default false. */
  readonly ceilMode?: Ceil;
}

/** Options of `avgPool`. */
export interface AvgPoolOptions<S extends Pair, P extends Padding, Ceil extends boolean>
  extends PoolOptions<S, P, Ceil> {
  /** Whether padding counts in the mean, as zeros. Default true. */
  readonly countIncludePad?: boolean;
}

/** Options of `pad`. */
export interface PadOptions<Before extends number, After extends number> extends LayerOptions {
  /** Channels of zeros before and after those of the input. Default [0, 0]. */
  readonly channels?: readonly [before: Before, after: After];
}

/** Options of `batchNorm`. */
export interface BatchNormOptions extends LayerOptions {
  /** Added to the variance, so that a constant channel divides by no zero. Default 1e-5. */
  readonly epsilon?: number;
  /** Share of a batch's mean and variance that goes into the running ones, from 0 to 1. Default 0.1. */
  readonly momentum?: number;
}

/** Options of `groupNorm` and `layerNorm`. */
export interface NormOptions extends LayerOptions {
  /** Added to the variance, so that constant values divide by no zero. Default 1e-5. */
  readonly epsilon?: number;
}

/** Options of `localResponseNorm`. */
export interface LocalResponseNormOptions extends LayerOptions {
  /** Factor of the mean of squares. Default 1e-4. */
  readonly alpha?: number;
  /** Exponent. Default 0.75. */
  readonly beta?: number;
  /** Added to the mean of squares. Default 1. */
  readonly k?: number;
}

/** Options of `leakyRelu`. */
export interface LeakyReluOptions extends LayerOptions {
  /** Factor of values below 0, at least 0. Default 0.01. */
  readonly slope?: number;
}

/** Options of `prelu`. */
export interface PreluOptions extends LayerOptions {
  /** Whether all channels have one slope. Default false. */
  readonly shared?: boolean;
}

/** Options of `hardSigmoid`. */
export interface HardSigmoidOptions extends LayerOptions {
  /** Slope. Default 1 / 6. */
  readonly alpha?: number;
  /** Value at 0. Default 0.5. */
  readonly beta?: number;
}

/** Options of `scale`. */
export interface ScaleOptions extends LayerOptions {
  /** A constant added to each channel, learnt with the factors. Default true. */
  readonly bias?: boolean;
}
