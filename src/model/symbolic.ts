/** What feature maps and vectors have in common: a shape, a place in a graph, and the layers that keep the shape. */
import type { Operation, Place } from "./graph-builder.js";
import type {
  BatchNormOptions,
  HardSigmoidOptions,
  LayerOptions,
  LeakyReluOptions,
  NormOptions,
  PreluOptions,
  ScaleOptions,
} from "./options.js";
import { type Factors, type Size, typed } from "./shape.js";

/** Where a feature map or vector stands in its graph. */
export const place: unique symbol = Symbol("place");

/** A feature map or vector as constraints see it: its sizes alone. */
export interface Symbolic {
  readonly shape: readonly Size[];
  readonly [place]: Place;
}

/** One of a certain shape. */
export interface OfShape<S extends readonly Size[]> extends Symbolic {
  readonly shape: S;
}

/** The `this` of layers that keep a shape: one whose sizes exist. */
type Usable = OfShape<readonly number[]>;

/** The layers that feature maps and vectors share; `[...]` stands for either's shape. */
export abstract class ShapeKeeping<S extends readonly Size[]> implements Symbolic {
  /** Height, width and channels of a feature map, or the size of a vector. */
  readonly shape: S;
  /** @internal */
  readonly [place]: Place;

  /** @internal */
  constructor(at: Place) {
    this.shape = typed<S>(at.shape);
    this[place] = at;
  }

  /**
   * Rectified linear unit: max(x, 0), value by value.
   *
   * @param options `name`
   * @returns [...] -> [...]
   * @see PyTorch's `ReLU`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).relu().shape); // [ 24, 24, 6 ]
   * ```
   */
  relu<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "relu" }, options);
  }

  /**
   * Rectified linear unit with a ceiling: min(max(x, 0), 6), value by value.
   *
   * @param options `name`
   * @returns [...] -> [...], values from 0 to 6
   * @see PyTorch's `ReLU6`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).relu6().shape); // [ 24, 24, 6 ]
   * ```
   */
  relu6<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "relu6" }, options);
  }

  /**
   * Rectified linear unit that lets a little through: x from 0, slope * x below, value by value.
   *
   * @param options `slope` (0.01), `name`
   * @returns [...] -> [...]
   * @throws FoveaError `INVALID_ARGUMENT` when the slope is negative
   * @see PyTorch's `LeakyReLU`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).leakyRelu({ slope: 0.1 }).shape); // [ 24, 24, 6 ]
   * ```
   */
  leakyRelu<X extends Usable>(this: X, options: LeakyReluOptions = {}): X {
    return keep(this, { op: "leakyRelu", slope: options.slope ?? 0.01 }, options);
  }

  /**
   * Leaky ReLU whose slope is learnt: x from 0, weight * x below, with a weight for each channel or one for all, which begins
   * as 0.25.
   *
   * @param options `shared` (false): whether all channels have one slope; `name`
   * @returns [...] -> [...]; 1 parameter a channel, or 1
   * @see He et al. 2015, arXiv:1502.01852; PyTorch's `PReLU`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).prelu().shape); // [ 24, 24, 6 ]
   * ```
   */
  prelu<X extends Usable>(this: X, options: PreluOptions = {}): X {
    return keep(this, { op: "prelu", shared: options.shared ?? false }, options);
  }

  /**
   * Bounds: min(max(x, least), most), value by value.
   *
   * @param min the smallest result
   * @param max the largest result
   * @param options `name`
   * @returns [...] -> [...], values from min to max
   * @throws FoveaError `INVALID_ARGUMENT` when a bound is not finite, or the larger one the smaller
   * @see PyTorch's `Hardtanh`, which passes no gradient at the bounds either
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).clip(-1, 1).shape); // [ 24, 24, 6 ]
   * ```
   */
  clip<X extends Usable>(this: X, min: number, max: number, options: LayerOptions = {}): X {
    return keep(this, { op: "clip", min, max }, options);
  }

  /**
   * Sigmoid of straight lines: min(max(alpha * x + beta, 0), 1), value by value.
   *
   * @param options `alpha` (1 / 6), `beta` (0.5), `name`
   * @returns [...] -> [...], values from 0 to 1
   * @throws FoveaError `INVALID_ARGUMENT` when a number is not finite
   * @see PyTorch's `Hardsigmoid`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).hardSigmoid().shape); // [ 24, 24, 6 ]
   * ```
   */
  hardSigmoid<X extends Usable>(this: X, options: HardSigmoidOptions = {}): X {
    const { alpha = 1 / 6, beta = 0.5 } = options;
    return keep(this, { op: "hardSigmoid", alpha, beta }, options);
  }

  /**
   * Swish of straight lines: x * min(max(x / 6 + 1 / 2, 0), 1), value by value.
   *
   * @param options `name`
   * @returns [...] -> [...]
   * @see Howard et al. 2019, arXiv:1905.02244; PyTorch's `Hardswish`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).hardSwish().shape); // [ 24, 24, 6 ]
   * ```
   */
  hardSwish<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "hardSwish" }, options);
  }

  /**
   * SiLU, also called swish: x / (1 + exp(-x)), as EfficientNet has it.
   *
   * @param options `name`
   * @returns [...] -> [...]
   * @see Hendrycks and Gimpel 2016, arXiv:1606.08415; PyTorch's `SiLU`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).silu().shape); // [ 24, 24, 6 ]
   * ```
   */
  silu<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "silu" }, options);
  }

  /**
   * GELU: x times the share of a normal distribution that is below x, as ConvNeXt has it.
   *
   * @param options `name`
   * @returns [...] -> [...]
   * @see Hendrycks and Gimpel 2016, arXiv:1606.08415; PyTorch's `GELU` without approximation
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).gelu().shape); // [ 24, 24, 6 ]
   * ```
   */
  gelu<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "gelu" }, options);
  }

  /**
   * Constants: scale * x + shift, value by value.
   *
   * @param scale factor
   * @param shift what is added to the product; default 0
   * @param options `name`
   * @returns [...] -> [...]
   * @throws FoveaError `INVALID_ARGUMENT` when a number is not finite
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).affine(2, -1).shape); // [ 28, 28, 1 ]
   * ```
   */
  affine<X extends Usable>(this: X, scale: number, shift = 0, options: LayerOptions = {}): X {
    return keep(this, { op: "affine", scale, shift }, options);
  }

  /**
   * A learnt factor for each channel, which begins as 1, and a learnt summand, which begins as 0.
   *
   * @param options `bias` (true): whether there is a summand; `name`
   * @returns [...] -> [...]; 2 parameters a channel, or 1
   * @see LeCun et al. 1998, whose subsampling layers have a coefficient and a bias a map
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 6).avgPool(2).scale().tanh().shape); // [ 14, 14, 6 ]
   * ```
   */
  scale<X extends Usable>(this: X, options: ScaleOptions = {}): X {
    return keep(this, { op: "scale", bias: options.bias ?? true }, options);
  }

  /**
   * Logistic function: 1 / (1 + exp(-x)), value by value.
   *
   * @param options `name`
   * @returns [...] -> [...], values from 0 to 1
   * @see PyTorch's `Sigmoid`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).sigmoid().shape); // [ 24, 24, 6 ]
   * ```
   */
  sigmoid<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "sigmoid" }, options);
  }

  /**
   * Hyperbolic tangent, value by value.
   *
   * @param options `name`
   * @returns [...] -> [...], values from -1 to 1
   * @see PyTorch's `Tanh`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5).tanh().shape); // [ 24, 24, 6 ]
   * ```
   */
  tanh<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "tanh" }, options);
  }

  /**
   * Softmax: exp(x) over its sum, which makes the channels of each pixel, or the values of a vector, probabilities.
   * Training adds its own, so that a network to be trained ends in scores.
   *
   * @param options `name`
   * @returns [...] -> [...], values from 0 to 1, the sum of each pixel or vector 1
   * @see PyTorch's `Softmax` and `Softmax2d`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(8, 8, 3).conv(21, 1).softmax().shape); // [ 8, 8, 21 ]
   * console.log(input(8, 8, 3).flatten().dense(10).softmax().shape); // [ 10 ]
   * ```
   */
  softmax<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "softmax" }, options);
  }

  /**
   * Logarithm of {@link softmax}, exact where probabilities are next to 0. Training may go through it.
   *
   * @param options `name`
   * @returns [...] -> [...], values of at most 0
   * @see PyTorch's `LogSoftmax`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(8, 8, 3).flatten().dense(10).logSoftmax().shape); // [ 10 ]
   * ```
   */
  logSoftmax<X extends Usable>(this: X, options: LayerOptions = {}): X {
    return keep(this, { op: "logSoftmax" }, options);
  }

  /**
   * Batch normalisation: each channel less its mean, over its standard deviation, then scaled and shifted as learnt.
   * Training takes mean and variance from the batch and keeps running ones, with which inference computes.
   *
   * @param options `epsilon` (1e-5), `momentum` (0.1), `name`
   * @returns [...] -> [...]; 2 parameters a channel
   * @throws FoveaError `INVALID_ARGUMENT` when an option is out of range
   * @see Ioffe and Szegedy 2015, arXiv:1502.03167; PyTorch's `BatchNorm2d` and `BatchNorm1d`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5, { bias: false }).batchNorm().relu().shape); // [ 24, 24, 6 ]
   * ```
   */
  batchNorm<X extends Usable>(this: X, options: BatchNormOptions = {}): X {
    const { epsilon = 1e-5, momentum = 0.1 } = options;
    return keep(this, { op: "batchNorm", epsilon, momentum }, options);
  }

  /**
   * Group normalisation: each image's channels, in groups of neighbours, less the group's mean, over its standard
   * deviation, then scaled and shifted by channel as learnt. Training and inference compute the same, whatever the batch.
   *
   * @param groups groups of channels, which they divide; 1 takes all channels together, as many as channels each by itself
   * @param options `epsilon` (1e-5), `name`
   * @returns [...] -> [...]; 2 parameters a channel
   * @throws FoveaError `INVALID_SHAPE` when the groups do not divide the channels, `INVALID_ARGUMENT` when an option is out of
   * range
   * @see Wu and He 2018, arXiv:1803.08494; PyTorch's `GroupNorm`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(28, 28, 1).conv(6, 5, { bias: false }).groupNorm(3).relu().shape); // [ 24, 24, 6 ]
   * ```
   */
  groupNorm<X extends Usable>(this: X, groups: number, options: NormOptions = {}): X {
    const { epsilon = 1e-5 } = options;
    return keep(this, { op: "groupNorm", groups, epsilon }, options);
  }

  /**
   * Layer normalisation over the channels: those of each pixel, or all values of a vector, less their mean, over their
   * standard deviation, then scaled and shifted by channel as learnt.
   *
   * @param options `epsilon` (1e-5), `name`
   * @returns [...] -> [...]; 2 parameters a channel
   * @throws FoveaError `INVALID_ARGUMENT` when an option is out of range
   * @see Ba et al. 2016, arXiv:1607.06450; PyTorch's `LayerNorm` where the channels are last, as ConvNeXt has it
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(32, 32, 3).conv(96, 4, { stride: 4 }).layerNorm().shape); // [ 8, 8, 96 ]
   * ```
   */
  layerNorm<X extends Usable>(this: X, options: NormOptions = {}): X {
    const { epsilon = 1e-5 } = options;
    return keep(this, { op: "layerNorm", epsilon }, options);
  }

  /**
   * Dropout: in training each value becomes 0 with probability `rate`, and the others are divided by 1 - rate; nothing
   * happens outside training.
   *
   * @param rate from 0 to below 1
   * @param options `name`
   * @returns [...] -> [...]
   * @throws FoveaError `INVALID_ARGUMENT` when the rate is out of range
   * @see Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting"; PyTorch's `Dropout`
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(5, 5, 16).flatten().dropout(0.5).dense(10).size); // 10
   * ```
   */
  dropout<X extends Usable>(this: X, rate: number, options: LayerOptions = {}): X {
    return keep(this, { op: "dropout", rate }, options);
  }

  /**
   * Sum with another layer of the same shape, value by value: a residual network's shortcut.
   *
   * @param other of the same shape and network; one whose sizes are known only at run time goes first
   * @param options `name`
   * @returns [...], [...] -> [...]
   * @throws FoveaError `INVALID_SHAPE` when the shapes differ, which the compiler finds first if it knows the sizes
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * const x = input(28, 28, 64);
   * console.log(x.conv(64, 3, { padding: "same" }).add(x).shape); // [ 28, 28, 64 ]
   * ```
   */
  add<X extends Usable>(this: X, other: OfShape<X["shape"]>, options: LayerOptions = {}): X {
    return keep(this, { op: "add" }, options, [other]);
  }

  /**
   * Difference from another layer of the same shape, value by value.
   *
   * @param other of the same shape and network; one whose sizes are known only at run time goes first
   * @param options `name`
   * @returns [...], [...] -> [...]
   * @throws FoveaError `INVALID_SHAPE` when the shapes differ, which the compiler finds first if it knows the sizes
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * const x = input(28, 28, 64);
   * console.log(x.subtract(x.avgPool(3, { stride: 1, padding: 1 })).shape); // [ 28, 28, 64 ]
   * ```
   */
  subtract<X extends Usable>(this: X, other: OfShape<X["shape"]>, options: LayerOptions = {}): X {
    return keep(this, { op: "subtract" }, options, [other]);
  }

  /**
   * Product with another layer of the same shape, value by value; or with a factor for each channel of a feature map, which is
   * how squeeze and excitation weighs channels.
   *
   * @param other of the same shape and network, or [1, 1, c] or [c] for a feature map [h, w, c]
   * @param options `name`
   * @returns [...], [...] -> [...]
   * @throws FoveaError `INVALID_SHAPE` when the shapes do not fit, which the compiler finds first if it knows the sizes
   * @see Hu et al. 2017, "Squeeze-and-Excitation Networks", arXiv:1709.01507
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * const x = input(28, 28, 64);
   * const gate = x.globalAvgPool().flatten().dense(16).relu().dense(64).sigmoid();
   * console.log(x.multiply(gate).shape); // [ 28, 28, 64 ]
   * ```
   */
  multiply<X extends Usable>(
    this: X,
    other: OfShape<X["shape"]> | OfShape<Factors<X["shape"]>>,
    options: LayerOptions = {},
  ): X {
    return keep(this, { op: "multiply" }, options, [other]);
  }

  /**
   * Quotient by another layer of the same shape, value by value.
   *
   * @param other of the same shape and network; one whose sizes are known only at run time goes first
   * @param options `name`
   * @returns [...], [...] -> [...]
   * @throws FoveaError `INVALID_SHAPE` when the shapes differ, which the compiler finds first if it knows the sizes
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * const x = input(28, 28, 64);
   * console.log(x.divide(x.sigmoid().affine(1, 1)).shape); // [ 28, 28, 64 ]
   * ```
   */
  divide<X extends Usable>(this: X, other: OfShape<X["shape"]>, options: LayerOptions = {}): X {
    return keep(this, { op: "divide" }, options, [other]);
  }
}

/** The place after a layer that reads this and others. */
export function next(
  from: Symbolic,
  operation: Operation,
  { name }: LayerOptions,
  others: readonly Symbolic[] = [],
): Place {
  return from[place].graph.add(
    operation,
    [from, ...others].map((each) => each[place]),
    name,
  );
}

/** The same class and sizes after a layer that keeps them. */
function keep<X extends Symbolic>(
  from: X,
  operation: Operation,
  options: LayerOptions,
  others: readonly Symbolic[] = [],
): X {
  return Reflect.construct(from.constructor, [next(from, operation, options, others)]);
}
