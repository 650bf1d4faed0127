/** Vectors: what flattening and dense layers give. */
import type { WeightOptions } from "./options.js";
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
}
