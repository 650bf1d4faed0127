/**
 * The typed builder: symbolic feature maps and vectors, whose methods are the layers.
 *
 * A {@link FeatureMap} computes nothing. It stands for a place in a network, its type is its shape, and each method adds a
 * layer and returns the next place. A block is a plain function from one to the next.
 *
 * Layers are added to the graph through {@link GraphBuilder}, which names them and checks at run time what the compiler
 * could not know. Every layer takes an optional `name`, by which its weights go in files and messages; without one it is
 * called by its operation and a number: `conv1`, `relu1`, `maxPool1`, `dense1`.
 */
import type { Initializer, PaddingDefinition } from "./definition.js";
import { GraphBuilder, type Operation, type Place } from "./graph-builder.js";
import {
  type Grouped,
  type Horizontal,
  type HorizontalEdge,
  type Padding,
  type Pair,
  type Product,
  type Size,
  type Slide,
  typed,
  type Vertical,
  type VerticalEdge,
} from "./shape.js";

/** Where a feature map or vector stands in its graph. */
export const place: unique symbol = Symbol("place");

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

/** Options of {@link FeatureMap.conv}. */
export interface ConvOptions<S extends Pair, P extends Padding, D extends Pair, G extends number>
  extends WeightOptions {
  /** Pixels from one window to the next. Default 1. */
  readonly stride?: S;
  /** Zeros around the input. Default `"valid"`: none. */
  readonly padding?: P;
  /** Pixels from one weight of a window to the next. Default 1. */
  readonly dilation?: D;
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

/** Options of {@link FeatureMap.avgPool}. */
export interface AvgPoolOptions<S extends Pair, P extends Padding, Ceil extends boolean>
  extends PoolOptions<S, P, Ceil> {
  /** Whether padding counts in the mean, as zeros. Default true. */
  readonly countIncludePad?: boolean;
}

/** A feature map or vector as constraints see it: its sizes alone. */
export interface Symbolic {
  readonly shape: readonly Size[];
  readonly [place]: Place;
}

/** The `this` of every layer: a feature map whose sizes exist. */
interface Usable<H extends number, W extends number, C extends number> extends Symbolic {
  readonly shape: readonly [H, W, C];
}

/** A feature map: height, width and channels, as types too. Made by {@link input} and by layers. */
export class FeatureMap<out H extends Size, out W extends Size, out C extends Size> implements Symbolic {
  /** Height, width, channels. */
  readonly shape: readonly [H, W, C];
  /** @internal */
  readonly [place]: Place;

  /** @internal */
  constructor(at: Place) {
    this.shape = typed<readonly [H, W, C]>(at.shape);
    this[place] = at;
  }

  /**
   * Convolution: each filter slides over the image and sums what its window covers, over all channels.
   *
   * @param filters number of filters, the channels of the result
   * @param kernel height and width of the window in pixels; one number for both
   * @param options `stride` (1), `padding` (`"valid"`), `dilation` (1), `groups` (1), `bias` (true), `init`
   * (`"kaiming"`), `name`
   * @returns [h, w, c] -> [h', w', filters], h' = floor((h + padding - dilation * (kernel - 1) - 1) / stride) + 1, and
   * ceil(h / stride) with padding `"same"`
   * @throws FoveaError `INVALID_SHAPE` when the window is larger than the padded input, or groups do not divide channels
   * and filters. Where sizes are literals the compiler finds that first.
   * @see PyTorch's `Conv2d`, of which this is a cross-correlation with the same meaning of each option
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * const x = input(28, 28, 1);
   * console.log(x.conv(6, 5).shape); // [ 24, 24, 6 ]
   * console.log(x.conv(8, [3, 5], { stride: 2, padding: "same" }).shape); // [ 14, 14, 8 ]
   * ```
   */
  conv<
    H extends number,
    W extends number,
    C extends number,
    const F extends number,
    const K extends Pair,
    const S extends Pair = 1,
    const P extends Padding = "valid",
    const D extends Pair = 1,
    const G extends number = 1,
  >(
    this: Usable<H, W, C>,
    filters: F,
    kernel: K,
    options: ConvOptions<S, P, D, G> = {},
  ): FeatureMap<
    Slide<H, Vertical<K>, Vertical<NoInfer<S>>, VerticalEdge<NoInfer<P>>, Vertical<NoInfer<D>>, false>,
    Slide<W, Horizontal<K>, Horizontal<NoInfer<S>>, HorizontalEdge<NoInfer<P>>, Horizontal<NoInfer<D>>, false>,
    Grouped<C, F, NoInfer<G>>
  > {
    const { stride = 1, padding = "valid", dilation = 1, groups = 1, bias = true, init = "kaiming", name } = options;
    return new FeatureMap(
      next(
        this,
        {
          op: "conv",
          filters,
          kernel: both(kernel),
          stride: both(stride),
          padding: sides(padding),
          dilation: both(dilation),
          groups,
          bias,
          init,
        },
        name,
      ),
    );
  }

  /**
   * Max pooling: the largest value of each window, channel by channel.
   *
   * @param size height and width of the window in pixels; one number for both
   * @param options `stride` (the window's size), `padding` (`"valid"`; padding never wins), `ceilMode` (false), `name`
   * @returns [h, w, c] -> [h', w', c], h' = floor((h + padding - size) / stride) + 1; with `ceilMode` rounded up, without
   * windows that begin beyond the input
   * @throws FoveaError `INVALID_SHAPE` when the window is larger than the padded input, or padding as large as the window
   * @see PyTorch's `MaxPool2d`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 6).maxPool(2).shape); // [ 14, 14, 6 ]
   * console.log(input(28, 28, 6).maxPool(3, { stride: 2, ceilMode: true }).shape); // [ 14, 14, 6 ]
   * ```
   */
  maxPool<
    H extends number,
    W extends number,
    C extends number,
    const K extends Pair,
    const S extends Pair = K,
    const P extends Padding = "valid",
    const Ceil extends boolean = false,
  >(
    this: Usable<H, W, C>,
    size: K,
    options: PoolOptions<S, P, Ceil> = {},
  ): FeatureMap<
    Slide<H, Vertical<K>, Vertical<NoInfer<S>>, VerticalEdge<NoInfer<P>>, 1, NoInfer<Ceil>>,
    Slide<W, Horizontal<K>, Horizontal<NoInfer<S>>, HorizontalEdge<NoInfer<P>>, 1, NoInfer<Ceil>>,
    C
  > {
    return new FeatureMap(next(this, { op: "maxPool", ...pooling(size, options) }, options.name));
  }

  /**
   * Average pooling: the mean of each window, channel by channel.
   *
   * @param size height and width of the window in pixels; one number for both
   * @param options those of {@link maxPool}, and `countIncludePad` (true): whether padding counts in the mean, as zeros
   * @returns [h, w, c] -> [h', w', c], sized as by {@link maxPool}
   * @throws FoveaError as {@link maxPool} does
   * @see PyTorch's `AvgPool2d`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(14, 14, 6).avgPool(5, { stride: 3 }).shape); // [ 4, 4, 6 ]
   * ```
   */
  avgPool<
    H extends number,
    W extends number,
    C extends number,
    const K extends Pair,
    const S extends Pair = K,
    const P extends Padding = "valid",
    const Ceil extends boolean = false,
  >(
    this: Usable<H, W, C>,
    size: K,
    options: AvgPoolOptions<S, P, Ceil> = {},
  ): FeatureMap<
    Slide<H, Vertical<K>, Vertical<NoInfer<S>>, VerticalEdge<NoInfer<P>>, 1, NoInfer<Ceil>>,
    Slide<W, Horizontal<K>, Horizontal<NoInfer<S>>, HorizontalEdge<NoInfer<P>>, 1, NoInfer<Ceil>>,
    C
  > {
    const { countIncludePad = true, name } = options;
    return new FeatureMap(next(this, { op: "avgPool", ...pooling(size, options), countIncludePad }, name));
  }

  /**
   * Rectified linear unit: max(x, 0), value by value.
   *
   * @param options `name`
   * @returns [h, w, c] -> [h, w, c]
   * @see PyTorch's `ReLU`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).relu().shape); // [ 24, 24, 6 ]
   * ```
   */
  relu<H extends number, W extends number, C extends number>(
    this: Usable<H, W, C>,
    options: LayerOptions = {},
  ): FeatureMap<H, W, C> {
    return new FeatureMap(next(this, { op: "relu" }, options.name));
  }

  /**
   * Hyperbolic tangent, value by value.
   *
   * @param options `name`
   * @returns [h, w, c] -> [h, w, c], values from -1 to 1
   * @see PyTorch's `Tanh`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).tanh().shape); // [ 24, 24, 6 ]
   * ```
   */
  tanh<H extends number, W extends number, C extends number>(
    this: Usable<H, W, C>,
    options: LayerOptions = {},
  ): FeatureMap<H, W, C> {
    return new FeatureMap(next(this, { op: "tanh" }, options.name));
  }

  /**
   * Softmax: exp(x) over its sum, which makes the channels of each pixel probabilities. Training adds its own, so that a
   * network to be trained ends in scores.
   *
   * @param options `name`
   * @returns [h, w, c] -> [h, w, c], values from 0 to 1, each pixel's sum 1
   * @see PyTorch's `Softmax2d`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(8, 8, 3).conv(21, 1).softmax().shape); // [ 8, 8, 21 ]
   * ```
   */
  softmax<H extends number, W extends number, C extends number>(
    this: Usable<H, W, C>,
    options: LayerOptions = {},
  ): FeatureMap<H, W, C> {
    return new FeatureMap(next(this, { op: "softmax" }, options.name));
  }

  /**
   * All values in one vector, which is what dense layers read.
   *
   * @param options `name`
   * @returns [h, w, c] -> [h * w * c]
   * @see PyTorch's `Flatten`; its order of values, channels first, holds in files of weights
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(5, 5, 16).flatten().size); // 400
   * ```
   */
  flatten<H extends number, W extends number, C extends number>(
    this: Usable<H, W, C>,
    options: LayerOptions = {},
  ): Vector<Product<H, W, C>> {
    return new Vector(next(this, { op: "flatten" }, options.name));
  }
}

/** A vector: its size, as a type too. Made by {@link FeatureMap.flatten} and by dense layers. */
export class Vector<out N extends number> implements Symbolic {
  readonly shape: readonly [N];
  /** @internal */
  readonly [place]: Place;

  /** @internal */
  constructor(at: Place) {
    this.shape = typed<readonly [N]>(at.shape);
    this[place] = at;
  }

  /** The number of values. */
  get size(): N {
    return this.shape[0];
  }

  /**
   * Dense layer: each unit is a weighted sum of all values. Also called fully connected, or linear.
   *
   * @param units number of sums, the size of the result
   * @param options `bias` (true), `init` (`"kaiming"`), `name`
   * @returns [n] -> [units]
   * @throws FoveaError `INVALID_ARGUMENT` when units are no whole number from 1
   * @see PyTorch's `Linear`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(5, 5, 16).flatten().dense(120).size); // 120
   * ```
   */
  dense<const M extends number>(units: M, options: WeightOptions = {}): Vector<M> {
    const { bias = true, init = "kaiming", name } = options;
    return new Vector(next(this, { op: "dense", units, bias, init }, name));
  }

  /**
   * Rectified linear unit: max(x, 0), value by value.
   *
   * @param options `name`
   * @returns [n] -> [n]
   * @see PyTorch's `ReLU`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(5, 5, 16).flatten().dense(120).relu().size); // 120
   * ```
   */
  relu(options: LayerOptions = {}): Vector<N> {
    return new Vector(next(this, { op: "relu" }, options.name));
  }

  /**
   * Hyperbolic tangent, value by value.
   *
   * @param options `name`
   * @returns [n] -> [n], values from -1 to 1
   * @see PyTorch's `Tanh`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(5, 5, 16).flatten().dense(84).tanh().size); // 84
   * ```
   */
  tanh(options: LayerOptions = {}): Vector<N> {
    return new Vector(next(this, { op: "tanh" }, options.name));
  }

  /**
   * Softmax: exp(x) over its sum, which makes scores probabilities. Training adds its own, so that a network to be trained
   * ends in scores.
   *
   * @param options `name`
   * @returns [n] -> [n], values from 0 to 1 with sum 1
   * @see PyTorch's `Softmax`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(5, 5, 16).flatten().dense(10).softmax().size); // 10
   * ```
   */
  softmax(options: LayerOptions = {}): Vector<N> {
    return new Vector(next(this, { op: "softmax" }, options.name));
  }
}

/**
 * The image that a network reads; the beginning of every feature map.
 *
 * @param height pixels
 * @param width pixels
 * @param channels values a pixel: 1 for grey, 3 for red, green, blue
 * @returns a feature map [height, width, channels]
 * @throws FoveaError `INVALID_ARGUMENT` when a size is no whole number from 1
 * @example
 * ```ts
 * import { input } from "fovea";
 *
 * console.log(input(32, 32, 3).shape); // [ 32, 32, 3 ]
 * ```
 */
export function input<const H extends number, const W extends number, const C extends number>(
  height: H,
  width: W,
  channels: C,
): FeatureMap<H, W, C> {
  return new FeatureMap(new GraphBuilder([height, width, channels]).input);
}

function next(from: Symbolic, operation: Operation, name: string | undefined): Place {
  const at = from[place];
  return at.graph.add(operation, [at], name);
}

function both(pair: Pair): readonly [number, number] {
  return pair instanceof Object ? pair : [pair, pair];
}

function sides(padding: Padding): PaddingDefinition {
  return typeof padding === "number" ? [padding, padding, padding, padding] : padding;
}

function pooling(size: Pair, options: PoolOptions<Pair, Padding, boolean>) {
  const { stride = size, padding = "valid", ceilMode = false } = options;
  return { size: both(size), stride: both(stride), padding: sides(padding), ceilMode };
}
