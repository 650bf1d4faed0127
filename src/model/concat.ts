/** Concatenation: branches side by side. */
import { FeatureMap } from "./feature-map.js";
import type { LayerOptions } from "./options.js";
import type { ChannelSum, Size } from "./shape.js";
import { next, type OfShape } from "./symbolic.js";
import { Vector } from "./vector.js";

type MapBeside<Height extends Size, Width extends Size> = OfShape<readonly [Height, Width, number]>;
type AnyVector = OfShape<readonly [number]>;

/** The shapes of branches. */
type Shapes<Branches extends readonly { readonly shape: readonly Size[] }[]> = {
  readonly [Index in keyof Branches]: Branches[Index]["shape"];
};

/** The values of several vectors, one after the other: [n1], [n2] ... -> [n1 + n2 + ...]. */
export function concat<const First extends AnyVector, const Rest extends readonly AnyVector[]>(
  branches: readonly [First, ...Rest],
  options?: LayerOptions,
): Vector<ChannelSum<Shapes<readonly [First, ...Rest]>>>;
/**
 * Concatenation: the channels of several feature maps one after the other, or the values of several vectors.
 *
 * It costs nothing: branches write next to each other in memory.
 *
 * @param branches two or more of one network and of the same height and width; those whose height and width are known
 * only at run time go first
 * @param options `name`
 * @returns [h, w, c1], [h, w, c2] ... -> [h, w, c1 + c2 + ...]; [n1], [n2] ... -> [n1 + n2 + ...]
 * @throws FoveaError `INVALID_SHAPE` when heights or widths differ, which the compiler finds first if it knows the sizes
 * @see PyTorch's `cat` along the channels
 * @example
 * ```ts
 * import { concat, input } from "fovea";
 *
 * const x = input(28, 28, 192);
 * const branches = concat([x.conv(64, 1), x.conv(128, 3, { padding: 1 }), x.maxPool(3, { stride: 1, padding: 1 })]);
 * console.log(branches.shape); // [ 28, 28, 384 ]
 * ```
 */
export function concat<
  const First extends MapBeside<number, number>,
  const Rest extends readonly MapBeside<First["shape"][0], First["shape"][1]>[],
>(
  branches: readonly [First, ...Rest],
  options?: LayerOptions,
): FeatureMap<First["shape"][0], First["shape"][1], ChannelSum<Shapes<readonly [First, ...Rest]>>>;
export function concat(
  [first, ...rest]: readonly [OfShape<readonly number[]>, ...OfShape<readonly number[]>[]],
  options: LayerOptions = {},
): FeatureMap<number, number, number> | Vector<number> {
  const at = next(first, { op: "concat" }, options, rest);
  return at.shape.length === 1 ? new Vector(at) : new FeatureMap(at);
}
