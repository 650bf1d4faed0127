import { type FeatureMap, input } from "../model/feature-map.js";
import type { Model, ModelOptions } from "../model/model.js";
import { type MapShape, typed } from "../model/shape.js";
import type { Optimizer } from "../training/optimizers.js";

/** Options of every architecture; its defaults are those of its paper. */
export interface ZooOptions<H extends number, W extends number, C extends number, Classes extends number>
  extends ModelOptions {
  /** Height, width and channels of an image. */
  readonly input?: readonly [height: H, width: W, channels: C] | undefined;
  /** Size of the output. */
  readonly classes?: Classes | undefined;
}

/** An entry of the zoo. */
export interface Architecture {
  /** What the command line calls it. */
  readonly name: string;
  readonly year: number;
  readonly paper: string;
  /** Height, width and channels of an image, unless told otherwise. */
  readonly input: MapShape;
  /** Size of the output, unless told otherwise. */
  readonly classes: number;
  /** How `fovea train` trains it when told nothing about the optimizer. */
  readonly recipe: Optimizer;
  /** Makes a new model of it. */
  create(options?: ZooOptions<number, number, number, number>): Model;
}

/**
 * The image and the classes that options ask for, or an architecture's own. The defaults of the type parameters say the
 * same as the values given here.
 */
export function sized<H extends number, W extends number, C extends number, Classes extends number>(
  options: ZooOptions<H, W, C, Classes>,
  shape: MapShape,
  outputs: number,
): { readonly image: FeatureMap<H, W, C>; readonly classes: Classes } {
  const [height, width, channels] = options.input ?? typed<readonly [H, W, C]>(shape);
  return { image: input(height, width, channels), classes: options.classes ?? typed<Classes>(outputs) };
}
