/** What feature maps and vectors have in common: a shape, a place in a graph, and the layers that keep the shape. */
import type { Operation, Place } from "./graph-builder.js";
import type { BatchNormOptions, LayerOptions, LeakyReluOptions } from "./options.js";
import { type Size, typed } from "./shape.js";

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
