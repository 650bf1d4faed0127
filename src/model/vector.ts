/** Vectors: what flattening and dense layers give. */
import type { LayerOptions, WeightOptions } from "./options.js";
import { next, ShapeKeeping } from "./symbolic.js";

/** A vector: its size, as a type too. Made by {@link FeatureMap.flatten} and by dense layers. */
export class Vector<out N extends number> extends ShapeKeeping<readonly [N]> {
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
    const { bias = true, init = "kaiming" } = options;
    return new Vector(next(this, { op: "dense", units, bias, init }, options));
  }

  /**
   * Distances from constant codes: each unit is minus the sum of squares of what the values differ from its code, so that
   * the largest belongs to the nearest code.
   *
   * @param codes for each unit a number for each value
   * @param options `name`
   * @returns [n] -> [number of codes], values of at most 0
   * @throws FoveaError `INVALID_SHAPE` when a code has another number of numbers; `INVALID_ARGUMENT` when one is not finite
   * @see LeCun et al. 1998, section II.B, whose output units have the opposite sign
   * @example
   * ```ts
   * import { input } from "fovea";
   *
   * console.log(input(1, 1, 9).flatten().dense(2).radialBasis([[1, -1], [-1, 1], [1, 1]]).size); // 3
   * ```
   */
  radialBasis<const Codes extends readonly (readonly number[])[]>(
    codes: Codes,
    options: LayerOptions = {},
  ): Vector<Codes["length"]> {
    return new Vector(next(this, { op: "radialBasis", codes }, options));
  }
}
