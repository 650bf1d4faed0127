import { invalidArgument } from "../errors.js";
import type { Model } from "../model/model.js";
import { recipes } from "../training/recipes.js";
import { type AnyMap, define, type Network, type ZooOptions } from "./architecture.js";

/** MobileNet (Howard et al. 2017, arXiv:1704.04861), Table 1. */
const blocks = [
  // filters, stride of the 3x3 convolution
  [64, 1],
  [128, 2],
  [128, 1],
  [256, 2],
  [256, 1],
  [512, 2],
  [512, 1],
  [512, 1],
  [512, 1],
  [512, 1],
  [512, 1],
  [1024, 2],
  [1024, 1],
] as const;

const entry = {
  year: 2017,
  paper: "Howard et al. 2017, MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
  input: [224, 224, 3],
  classes: 1000,
  recipe: recipes.mobilenet.optimizer,
} as const;

/** A block of the network: the convolutions from one number of channels to the next, `name` before theirs. */
type Block = (x: AnyMap, filters: number, stride: number, name: string) => AnyMap;

/** Depthwise 3x3 and pointwise 1x1, each with batch normalisation and ReLU. */
const separable: Block = (x, filters, stride, name) =>
  x
    .depthwiseConv(3, { stride, padding: 1, bias: false, name: `${name}.0` })
    .batchNorm({ name: `${name}.1` })
    .relu({ name: `${name}.2` })
    .conv(filters, 1, { bias: false, name: `${name}.3` })
    .batchNorm({ name: `${name}.4` })
    .relu({ name: `${name}.5` });

/** One full 3x3 convolution with batch normalisation and ReLU. */
const full: Block = (x, filters, stride, name) =>
  x
    .conv(filters, 3, { stride, padding: 1, bias: false, name: `${name}.0` })
    .batchNorm({ name: `${name}.1` })
    .relu({ name: `${name}.2` });

function network(name: string, block: Block, width: number): Network<readonly [224, 224, 3], 1000> {
  const channels = (filters: number) => Math.max(1, Math.round(width * filters));
  return define({ name, ...entry }, (image, classes) => {
    const x = blocks.reduce<AnyMap>(
      (x, [filters, stride], index) => block(x, channels(filters), stride, `features.${index + 1}`),
      full(image, channels(32), 2, "features.0"),
    );
    return x.globalAvgPool({ name: "avgpool" }).flatten().dense(classes, { name: "classifier" });
  });
}

const widthOne = network("mobilenet", separable, 1);
const narrow = [0.75, 0.5, 0.25].map((width) => network(`mobilenet-${width}`, separable, width));

/** The entries of the zoo: the paper's four widths. */
export const mobilenets = [widthOne, ...narrow].map(({ architecture }) => architecture);

/** Options of {@link mobilenet}. */
export interface MobilenetOptions<H extends number, W extends number, C extends number, Classes extends number>
  extends ZooOptions<H, W, C, Classes> {
  /** Multiplies the number of every layer's channels; above 0, and 1, 0.75, 0.5 or 0.25 in the paper. Default 1. */
  readonly width?: number | undefined;
}

/**
 * MobileNet: depthwise separable convolutions, and two multipliers that trade accuracy for size, of width and resolution.
 *
 * @param options `width` (1), `input` ([224, 224, 3]; any size, 192, 160 and 128 in the paper), `classes` (1000), and
 * those of `model`: `seed`, `threads` ...
 * @returns [224, 224, 3] -> [1000]; features.0.0 the first convolution, block i features.i.0 depthwise and features.i.3
 * pointwise, classifier; with width 1, 0.75, 0.5, 0.25: 4,231,976, 2,585,560, 1,331,592, 470,072 parameters and
 * 568,740,352, 325,400,448, 149,497,088, 41,030,272 mult-adds
 * @throws FoveaError `INVALID_ARGUMENT` when the width is not above 0
 * @see Howard et al. 2017, arXiv:1704.04861
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * const small = zoo.mobilenet({ width: 0.25, input: [128, 128, 3], classes: 10 });
 * console.log(small.definition.name, small.outputShape); // mobilenet-0.25 [ 10 ]
 * ```
 */
export function mobilenet<
  const H extends number = 224,
  const W extends number = 224,
  const C extends number = 3,
  const Classes extends number = 1000,
>({ width = 1, ...options }: MobilenetOptions<H, W, C, Classes> = {}): Model<readonly [H, W, C], readonly [Classes]> {
  if (!(width > 0 && Number.isFinite(width))) throw invalidArgument("width", "a number above 0", width);
  return (width === 1 ? widthOne : network(`mobilenet-${width}`, separable, width))(options);
}

/**
 * The network that MobileNet's paper compares with: full 3x3 convolutions in place of the separable ones.
 *
 * @param options `input` ([224, 224, 3]; any size), `classes` (1000), and those of `model`: `seed`, `threads` ...
 * @returns [224, 224, 3] -> [1000]; features.i.0 the convolutions, classifier; 29,294,088 parameters, 4,867,293,184
 * mult-adds
 * @see Howard et al. 2017, arXiv:1704.04861, Table 4
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.convMobilenet().outputShape); // [ 1000 ]
 * ```
 */
export const convMobilenet = network("conv-mobilenet", full, 1);
