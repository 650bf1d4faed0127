import { checkedOptions } from "../arguments.js";
import { type FeatureMap, input } from "../model/feature-map.js";
import { type Model, type ModelOptions, model, type Outputs } from "../model/model.js";
import { type MapShape, typed } from "../model/shape.js";
import type { Vector } from "../model/vector.js";
import type { Optimizer } from "../training/optimizers.js";

/** Options of every architecture; its defaults are those of its paper. */
export interface ZooOptions<H extends number, W extends number, C extends number, Classes extends number>
  extends ModelOptions {
  /** Height, width and channels of an image. */
  readonly input?: readonly [height: H, width: W, channels: C] | undefined;
  /** Size of the output. */
  readonly classes?: Classes | undefined;
}

/** What is known of an architecture before it is made. */
export interface Entry<Input extends MapShape = MapShape, Classes extends number = number> {
  /** What the command line calls it. */
  readonly name: string;
  readonly year: number;
  readonly paper: string;
  /** Height, width and channels of an image, unless told otherwise. */
  readonly input: Input;
  /** Size of the output, unless told otherwise. */
  readonly classes: Classes;
  /** How `fovea train` trains it when told nothing about the optimizer. */
  readonly recipe: Optimizer;
}

/** An entry of the zoo. */
export interface Architecture extends Entry {
  /** Makes a new model of it. */
  create(options?: ZooOptions<number, number, number, number>): Model;
}

/** A function that makes a model of one architecture, whose sizes are types; the defaults are the architecture's. */
export interface Network<Input extends MapShape, Size extends number> {
  <
    const H extends number = Input[0],
    const W extends number = Input[1],
    const C extends number = Input[2],
    const Classes extends number = Size,
  >(
    options?: ZooOptions<H, W, C, Classes>,
  ): Model<readonly [H, W, C], readonly [Classes]>;
  readonly architecture: Architecture;
}

/** A feature map inside a network that takes any image: its sizes are checked when the network is made. */
export type AnyMap = FeatureMap<number, number, number>;

/**
 * An architecture for any image and number of classes.
 *
 * @param entry its name, its paper, and the sizes that it has unless told otherwise
 * @param build from the image to scores for so many classes, perhaps with auxiliary heads
 */
export function define<const Input extends MapShape, const Size extends number>(
  entry: Entry<Input, Size>,
  build: <Classes extends number>(x: AnyMap, classes: Classes) => Vector<Classes> | Outputs<Vector<Classes>>,
): Network<Input, Size> {
  function create<H extends number, W extends number, C extends number, Classes extends number>(
    options: ZooOptions<H, W, C, Classes> = {},
  ): Model<readonly [H, W, C], readonly [Classes]> {
    const {
      input: [height, width, channels] = typed<readonly [H, W, C]>(entry.input),
      classes = typed<Classes>(entry.classes),
      name = entry.name,
      ...rest
    } = checkedOptions(options);
    return model(input(height, width, channels), (x) => build(x, classes), { name, ...rest });
  }
  return Object.assign(create, { architecture: { ...entry, create } });
}
