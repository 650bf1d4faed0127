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
import { isWhole, positive } from "./checks.js";
import type { PaddingDefinition, Sides } from "./definition.js";
import { GraphBuilder, type Operation } from "./graph-builder.js";
import type {
  AvgPoolOptions,
  ConvOptions,
  ConvTransposeOptions,
  DepthwiseConvOptions,
  LayerOptions,
  LocalResponseNormOptions,
  PadOptions,
  PoolOptions,
} from "./options.js";
import type {
  Enlarged,
  Grouped,
  Horizontal,
  HorizontalEdge,
  Padded,
  Padding,
  Pair,
  Product,
  Size,
  Slide,
  Times,
  Vertical,
  VerticalEdge,
  Zeros,
} from "./shape.js";
import { next, type OfShape, place, ShapeKeeping } from "./symbolic.js";
import { Vector } from "./vector.js";

/** The `this` of every layer: a feature map whose sizes exist. */
type Usable<H extends number, W extends number, C extends number> = OfShape<readonly [H, W, C]>;

/** A feature map: height, width and channels, as types too. Made by {@link input} and by layers. */
export class FeatureMap<out H extends Size, out W extends Size, out C extends Size> extends ShapeKeeping<
  readonly [H, W, C]
> {
  /**
   * Convolution: each filter slides over the image and sums what its window covers, over all channels.
   *
   * @param filters number of filters, the channels of the result
   * @param kernel height and width of the window in pixels; one number for both
   * @param options `stride` (1), `padding` (`"valid"`), `dilation` (1), `groups` (1), `bias` (true), `init`
   * (`"kaiming"`), `connections` (all): the channels that each filter sees, as in LeCun 1998, Table I; `name`
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
    const { groups = 1, connections } = options;
    const all = convolution(filters, kernel, groups, options);
    return new FeatureMap(next(this, connections === undefined ? all : { ...all, connections }, options));
  }

  /**
   * Transposed convolution: each pixel adds a window of products, one for each filter, to a larger image; what the input
   * gradient of a convolution computes. Networks that draw images, or label each pixel of one, enlarge maps by it.
   *
   * @param filters number of filters, the channels of the result
   * @param kernel height and width of the window in pixels; one number for both
   * @param options `stride` (1), `padding` (`"valid"`), `dilation` (1), `outputPadding` (0), `groups` (1), `bias` (true),
   * `init` (`"kaiming"`), `name`
   * @returns [h, w, c] -> [h', w', filters], h' = (h - 1) * stride + dilation * (kernel - 1) + 1 + outputPadding - padding of
   * both sides, and h * stride with padding `"same"`
   * @throws FoveaError `INVALID_SHAPE` when padding leaves nothing, when with padding `"same"` the kernel does not reach as
   * far as the stride, or when groups do not divide channels and filters; `INVALID_ARGUMENT` when an option is out of range
   * @see PyTorch's `ConvTranspose2d`, whose output padding may be as large as a dilation that is larger than the stride
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(7, 7, 64).convTranspose(32, 4, { stride: 2, padding: 1 }).shape); // [ 14, 14, 32 ]
   * ```
   */
  convTranspose<
    H extends number,
    W extends number,
    C extends number,
    const F extends number,
    const K extends Pair,
    const S extends Pair = 1,
    const P extends Padding = "valid",
    const D extends Pair = 1,
    const O extends Pair = 0,
    const G extends number = 1,
  >(
    this: Usable<H, W, C>,
    filters: F,
    kernel: K,
    options: ConvTransposeOptions<S, P, D, O, G> = {},
  ): FeatureMap<
    Enlarged<
      H,
      Vertical<K>,
      Vertical<NoInfer<S>>,
      VerticalEdge<NoInfer<P>>,
      Vertical<NoInfer<D>>,
      Vertical<NoInfer<O>>
    >,
    Enlarged<
      W,
      Horizontal<K>,
      Horizontal<NoInfer<S>>,
      HorizontalEdge<NoInfer<P>>,
      Horizontal<NoInfer<D>>,
      Horizontal<NoInfer<O>>
    >,
    Grouped<C, F, NoInfer<G>>
  > {
    const { groups = 1, outputPadding = 0 } = options;
    const transposed = { ...convolution(filters, kernel, groups, options), outputPadding: both(outputPadding) };
    return new FeatureMap(next(this, { ...transposed, op: "convTranspose" }, options));
  }

  /**
   * Depthwise convolution: one filter a channel, which sees that channel alone.
   *
   * @param kernel height and width of the window in pixels; one number for both
   * @param options those of {@link conv} without `groups`
   * @returns [h, w, c] -> [h', w', c], sized as by {@link conv}
   * @throws FoveaError as {@link conv} does
   * @see PyTorch's `Conv2d` with as many groups and filters as channels
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 32).depthwiseConv(3, { stride: 2, padding: 1 }).shape); // [ 14, 14, 32 ]
   * ```
   */
  depthwiseConv<
    H extends number,
    W extends number,
    C extends number,
    const K extends Pair,
    const S extends Pair = 1,
    const P extends Padding = "valid",
    const D extends Pair = 1,
  >(
    this: Usable<H, W, C>,
    kernel: K,
    options: DepthwiseConvOptions<S, P, D> = {},
  ): FeatureMap<
    Slide<H, Vertical<K>, Vertical<NoInfer<S>>, VerticalEdge<NoInfer<P>>, Vertical<NoInfer<D>>, false>,
    Slide<W, Horizontal<K>, Horizontal<NoInfer<S>>, HorizontalEdge<NoInfer<P>>, Horizontal<NoInfer<D>>, false>,
    C
  > {
    const channels = this.shape[2];
    return new FeatureMap(next(this, convolution(channels, kernel, channels, options), options));
  }

  /**
   * Separable convolution: a depthwise convolution, which looks at each channel apart, and one of 1x1, which mixes them.
   *
   * @param filters number of filters of the second, the channels of the result
   * @param kernel height and width of the first's window in pixels; one number for both
   * @param options those of {@link depthwiseConv}; `bias` is the second's, and `name` becomes `NAME.depthwise` and
   * `NAME.pointwise`
   * @returns [h, w, c] -> [h', w', filters], sized as by {@link conv}
   * @throws FoveaError as {@link conv} does
   * @see Howard et al. 2017, arXiv:1704.04861, who put batch normalisation and a ReLU after each of the two
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 32).separableConv(64, 3, { padding: "same" }).shape); // [ 28, 28, 64 ]
   * ```
   */
  separableConv<
    H extends number,
    W extends number,
    C extends number,
    const F extends number,
    const K extends Pair,
    const S extends Pair = 1,
    const P extends Padding = "valid",
    const D extends Pair = 1,
  >(
    this: Usable<H, W, C>,
    filters: F,
    kernel: K,
    options: DepthwiseConvOptions<S, P, D> = {},
  ): FeatureMap<
    Slide<H, Vertical<K>, Vertical<NoInfer<S>>, VerticalEdge<NoInfer<P>>, Vertical<NoInfer<D>>, false>,
    Slide<W, Horizontal<K>, Horizontal<NoInfer<S>>, HorizontalEdge<NoInfer<P>>, Horizontal<NoInfer<D>>, false>,
    F
  > {
    const { name, bias = true, init = "kaiming" } = options;
    const part = (which: string): LayerOptions => (name === undefined ? {} : { name: `${name}.${which}` });
    const channels = this.shape[2];
    const depthwise = convolution(channels, kernel, channels, { ...options, bias: false });
    const pointwise = convolution(filters, 1, 1, { bias, init });
    const between = new FeatureMap(next(this, depthwise, part("depthwise")));
    return new FeatureMap(next(between, pointwise, part("pointwise")));
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
    return new FeatureMap(next(this, { op: "maxPool", ...pooling(size, options) }, options));
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
    const { countIncludePad = true } = options;
    return new FeatureMap(next(this, { op: "avgPool", ...pooling(size, options), countIncludePad }, options));
  }

  /**
   * Global average pooling: the mean of each channel.
   *
   * @param options `name`
   * @returns [h, w, c] -> [1, 1, c]
   * @see PyTorch's `AdaptiveAvgPool2d(1)`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(7, 7, 512).globalAvgPool().flatten().size); // 512
   * ```
   */
  globalAvgPool<H extends number, W extends number, C extends number>(
    this: Usable<H, W, C>,
    options: LayerOptions = {},
  ): FeatureMap<1, 1, C> {
    return new FeatureMap(next(this, { op: "globalAvgPool" }, options));
  }

  /**
   * Global max pooling: the largest value of each channel.
   *
   * @param options `name`
   * @returns [h, w, c] -> [1, 1, c]
   * @see PyTorch's `AdaptiveMaxPool2d(1)`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(7, 7, 512).globalMaxPool().flatten().size); // 512
   * ```
   */
  globalMaxPool<H extends number, W extends number, C extends number>(
    this: Usable<H, W, C>,
    options: LayerOptions = {},
  ): FeatureMap<1, 1, C> {
    return new FeatureMap(next(this, { op: "globalMaxPool" }, options));
  }

  /**
   * Average pooling to a given size. The window of row i of h' is from row floor(i * h / h') to ceil((i + 1) * h / h'), so
   * that windows overlap where h' does not divide h. Where it does, this is {@link avgPool}, {@link globalAvgPool} or, if
   * the input has the size already, nothing at all.
   *
   * @param size height and width of the result; one number for both
   * @param options `name`
   * @returns [h, w, c] -> [size, size, c]
   * @throws FoveaError `INVALID_ARGUMENT` when a size is no whole number from 1
   * @see PyTorch's `AdaptiveAvgPool2d`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(14, 14, 512).adaptiveAvgPool(4).shape); // [ 4, 4, 512 ]
   * ```
   */
  adaptiveAvgPool<H extends number, W extends number, C extends number, const O extends Pair>(
    this: Usable<H, W, C>,
    size: O,
    options: LayerOptions = {},
  ): FeatureMap<Vertical<O>, Horizontal<O>, C> {
    const [h, w] = this.shape;
    const [height, width] = both(size);
    const window = [h / height, w / width] as const;
    if (!window.every(isWhole)) {
      return new FeatureMap(next(this, { op: "adaptiveAvgPool", size: [height, width] }, options));
    }
    const { graph } = this[place];
    const name = graph.nameFor("avgPool", options.name);
    for (const side of [height, width]) positive(`${name}.size`, side);
    if (window[0] === 1 && window[1] === 1) return new FeatureMap(this[place]);
    if (height === 1 && width === 1) return new FeatureMap(next(this, { op: "globalAvgPool" }, options));
    const pool: Operation = { op: "avgPool", ...pooling(window, {}), countIncludePad: true };
    return new FeatureMap(next(this, pool, { name }));
  }

  /**
   * Enlarging: each pixel becomes a rectangle of equal ones.
   *
   * @param factor how many times as high and as wide; one number for both
   * @param options `name`
   * @returns [h, w, c] -> [h * factor, w * factor, c]
   * @throws FoveaError `INVALID_ARGUMENT` when a factor is no whole number from 1
   * @see PyTorch's `Upsample` in its mode `nearest`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(7, 7, 512).upsample(2).shape); // [ 14, 14, 512 ]
   * ```
   */
  upsample<H extends number, W extends number, C extends number, const F extends Pair>(
    this: Usable<H, W, C>,
    factor: F,
    options: LayerOptions = {},
  ): FeatureMap<Times<H, Vertical<F>>, Times<W, Horizontal<F>>, C> {
    return new FeatureMap(next(this, { op: "upsample", factor: both(factor) }, options));
  }

  /**
   * Local response normalisation: each value over a power of what its neighbours in the channels have squared,
   * x / (k + alpha * m)^beta, where m is the sum of squares over `size` channels around, divided by `size`.
   *
   * @param size number of channels
   * @param options `alpha` (1e-4), `beta` (0.75), `k` (1), `name`
   * @returns [h, w, c] -> [h, w, c]
   * @throws FoveaError `INVALID_ARGUMENT` when an option is out of range
   * @see Krizhevsky 2012, whose alpha multiplies the sum: give size * alpha for it; PyTorch's `LocalResponseNorm`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(55, 55, 96).localResponseNorm(5, { alpha: 5e-4, k: 2 }).shape); // [ 55, 55, 96 ]
   * ```
   */
  localResponseNorm<H extends number, W extends number, C extends number>(
    this: Usable<H, W, C>,
    size: number,
    options: LocalResponseNormOptions = {},
  ): FeatureMap<H, W, C> {
    const { alpha = 1e-4, beta = 0.75, k = 1 } = options;
    return new FeatureMap(next(this, { op: "localResponseNorm", size, alpha, beta, k }, options));
  }

  /**
   * Zeros around an image, and before and after its channels.
   *
   * @param padding pixels on all sides; or one number a side: [top, right, bottom, left]
   * @param options `channels` ([0, 0]): how many before and after, `name`
   * @returns [h, w, c] -> [top + h + bottom, left + w + right, before + c + after]
   * @throws FoveaError `INVALID_ARGUMENT` when a number is negative or broken
   * @see PyTorch's `ZeroPad2d`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 16).pad([0, 1, 0, 1]).shape); // [ 28, 30, 16 ]
   * console.log(input(28, 28, 16).pad(0, { channels: [0, 16] }).shape); // [ 28, 28, 32 ]
   * ```
   */
  pad<
    H extends number,
    W extends number,
    C extends number,
    const P extends Zeros,
    const Before extends number = 0,
    const After extends number = 0,
  >(
    this: Usable<H, W, C>,
    padding: P,
    options: PadOptions<Before, After> = {},
  ): FeatureMap<
    Padded<H, VerticalEdge<P>>,
    Padded<W, HorizontalEdge<P>>,
    Padded<C, readonly [NoInfer<Before>, NoInfer<After>]>
  > {
    const { channels = [0, 0] } = options;
    return new FeatureMap(next(this, { op: "pad", padding: sides(padding), channels }, options));
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
    return new Vector(next(this, { op: "flatten" }, options));
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

function both(pair: Pair): readonly [number, number] {
  return pair instanceof Object ? pair : [pair, pair];
}

function sides(padding: Zeros): Sides {
  return typeof padding === "number" ? [padding, padding, padding, padding] : padding;
}

/** Padding, of which JavaScript may pass any word: that is left to the checks. */
function edges(padding: Padding): PaddingDefinition {
  return typeof padding === "string" ? padding : sides(padding);
}

function convolution(
  filters: number,
  kernel: Pair,
  groups: number,
  options: DepthwiseConvOptions<Pair, Padding, Pair>,
) {
  const { stride = 1, padding = "valid", dilation = 1, bias = true, init = "kaiming" } = options;
  return {
    op: "conv" as const,
    filters,
    kernel: both(kernel),
    stride: both(stride),
    padding: edges(padding),
    dilation: both(dilation),
    groups,
    bias,
    init,
  };
}

function pooling(size: Pair, options: PoolOptions<Pair, Padding, boolean>) {
  const { stride = size, padding = "valid", ceilMode = false } = options;
  return { size: both(size), stride: both(stride), padding: edges(padding), ceilMode };
}
