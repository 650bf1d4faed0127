import { invalidArgument } from "../errors.js";
import type { Dataset } from "../native.js";

/**
 * What is done to images while they are prepared, one operation after another. Native code does it, on the threads that
 * prepare batches; what it draws depends on the seed, the step and the image alone. Evaluation keeps `normalize`.
 */
export type Augmentation = Flip | Crop | ResizedCrop | Cutout | Jitter | Normalize | Mixup;

interface Flip {
  readonly kind: "flip";
  readonly probability: number;
}

interface Crop {
  readonly kind: "crop";
  readonly padding: number;
  readonly fill: "zeros" | "reflect";
}

interface ResizedCrop {
  readonly kind: "resizedCrop";
  readonly scale: readonly [number, number];
  readonly ratio: readonly [number, number];
}

interface Cutout {
  readonly kind: "cutout";
  readonly size: number;
}

interface Jitter {
  readonly kind: "jitter";
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
}

interface Normalize {
  readonly kind: "normalize";
  /** One number for each channel; null until they are computed from the training data. */
  readonly mean: readonly number[] | null;
  readonly deviation: readonly number[] | null;
}

interface Mixup {
  readonly kind: "mixup";
  readonly alpha: number;
}

/** Means and deviations of the channels of well-known training images, scaled to 0..1. */
const normalizations = {
  mnist: { mean: [0.1307], deviation: [0.3081] },
  "fashion-mnist": { mean: [0.286], deviation: [0.353] },
  cifar10: { mean: [0.4914, 0.4822, 0.4465], deviation: [0.247, 0.2435, 0.2616] },
  imagenet: { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] },
} as const;

/** Data whose mean and deviation are known. */
export type KnownNormalization = keyof typeof normalizations;

/**
 * Left and right change places.
 *
 * @param options `probability` (0.5)
 */
function flip({ probability = 0.5 }: { readonly probability?: number } = {}): Flip {
  return { kind: "flip", probability };
}

/**
 * The image is given a border and cut to its own size again anywhere.
 *
 * @param options `padding`, pixels on each side; `fill`: `"zeros"` (default) or `"reflect"`, the mirrored image
 */
function crop({ padding, fill = "zeros" }: { readonly padding: number; readonly fill?: "zeros" | "reflect" }): Crop {
  return { kind: "crop", padding, fill };
}

/**
 * A part of the image, resized to the size that the network wants: torchvision's `RandomResizedCrop`. It comes first; of
 * a file it takes its part before anything else is cut off.
 *
 * @param options `scale`, share of the area ([0.08, 1]); `ratio`, width to height ([3/4, 4/3])
 */
function resizedCrop({
  scale = [0.08, 1],
  ratio = [3 / 4, 4 / 3],
}: {
  readonly scale?: readonly [number, number];
  readonly ratio?: readonly [number, number];
} = {}): ResizedCrop {
  return { kind: "resizedCrop", scale, ratio };
}

/**
 * A square of zeros anywhere, cut off at the borders (DeVries and Taylor 2017, arXiv:1708.04552).
 *
 * @param options `size`, pixels of a side
 */
function cutout({ size }: { readonly size: number }): Cutout {
  return { kind: "cutout", size };
}

/**
 * Other light and colours, within 0 to 1; before `normalize`. Factors are drawn from 1 - x to 1 + x, as torchvision's
 * `ColorJitter` does.
 *
 * @param options `brightness` (0), `contrast` (0), `saturation` (0)
 */
function jitter({
  brightness = 0,
  contrast = 0,
  saturation = 0,
}: {
  readonly brightness?: number;
  readonly contrast?: number;
  readonly saturation?: number;
}): Jitter {
  return { kind: "jitter", brightness, contrast, saturation };
}

/**
 * Subtracts each channel's mean and divides by its deviation, in evaluation, too.
 *
 * @param of known data (`"cifar10"`, `"imagenet"`, `"mnist"`, `"fashion-mnist"`), or `mean` and `deviation` of each
 * channel; default: computed from the training images when training begins
 */
function normalize(
  of?: KnownNormalization | { readonly mean: readonly number[]; readonly deviation: readonly number[] },
): Normalize {
  if (of === undefined) return { kind: "normalize", mean: null, deviation: null };
  const { mean, deviation } = typeof of === "string" ? normalizations[of] : of;
  return { kind: "normalize", mean, deviation };
}

/**
 * Each image becomes a share of itself and the rest of another, and so do the targets (Zhang et al. 2018,
 * arXiv:1710.09412); after all others but `normalize`.
 *
 * @param options `alpha` (0.2): the share is drawn from Beta(alpha, alpha), once for a batch
 */
function mixup({ alpha = 0.2 }: { readonly alpha?: number } = {}): Mixup {
  return { kind: "mixup", alpha };
}

/**
 * What `fit` can do to images, in the order of its list.
 *
 * @example
 * ```ts
 * import { augment, datasets, input, model } from "fovea";
 *
 * const images = datasets.fromArrays(new Uint8Array(8 * 192), [8, 8, 8, 3], [0, 1, 0, 1, 0, 1, 0, 1]);
 * const net = model(input(8, 8, 3), (x) => x.conv(4, 3).relu().flatten().dense(2));
 * const varied = [augment.crop({ padding: 1 }), augment.flip(), augment.cutout({ size: 2 })];
 * const { steps } = await net.fit(images, { epochs: 1, batchSize: 4, augment: varied });
 * console.log(steps); // 2
 * await net.close();
 * ```
 */
export const augment = { flip, crop, resizedCrop, cutout, jitter, normalize, mixup } as const;

/** What {@link parseAugmentation} understands. */
export const augmentationHelp =
  "flip[:PROBABILITY], crop:PADDING[:reflect], resized-crop[:SCALE], cutout:SIZE, " +
  "jitter:BRIGHTNESS[:CONTRAST[:SATURATION]], mixup[:ALPHA], normalize[:cifar10|imagenet|mnist|fashion-mnist]";

const parsers: Readonly<Record<string, (args: readonly string[]) => Augmentation | undefined>> = {
  flip: ([probability = "0.5"]) => flip({ probability: Number(probability) }),
  crop: ([padding, fill = "zeros"]) =>
    padding !== undefined && (fill === "zeros" || fill === "reflect")
      ? crop({ padding: Number(padding), fill })
      : undefined,
  "resized-crop": ([scale = "0.08"]) => resizedCrop({ scale: [Number(scale), 1] }),
  cutout: ([size]) => (size === undefined ? undefined : cutout({ size: Number(size) })),
  jitter: ([brightness, contrast = brightness, saturation = contrast]) =>
    jitter({ brightness: Number(brightness), contrast: Number(contrast), saturation: Number(saturation) }),
  mixup: ([alpha = "0.2"]) => mixup({ alpha: Number(alpha) }),
  normalize: ([of]) => (of === undefined ? normalize() : isKnown(of) ? normalize(of) : undefined),
};

/** How many numbers or words may follow a name. */
const most: Readonly<Record<string, number>> = { crop: 2, jitter: 3 };

/**
 * Understands augmentations as the command line names them: `crop:4,flip,cutout:8`.
 *
 * @throws FoveaError `INVALID_ARGUMENT` naming the forms there are
 */
export function parseAugmentation(text: string): Augmentation[] {
  return text.split(",").map((part) => {
    const [name = "", ...args] = part.trim().split(":");
    const parsed = args.length <= (most[name] ?? 1) && !args.includes("") ? parsers[name]?.(args) : undefined;
    if (parsed === undefined || Object.values(parsed).flat().some(Number.isNaN)) {
      throw invalidArgument("augment", augmentationHelp, `"${part}"`);
    }
    return parsed;
  });
}

/** Computes what is still to be computed, from the training images. */
export async function resolveAugmentations(
  augmentations: readonly Augmentation[],
  train: Dataset,
): Promise<readonly Augmentation[]> {
  if (!augmentations.some((each) => each.kind === "normalize" && each.mean === null)) return augmentations;
  const { mean, deviation } = await train.statistics();
  return augmentations.map((each) =>
    each.kind === "normalize" && each.mean === null ? { ...each, mean, deviation } : each,
  );
}

/** What native code reads; nothing for no operation at all. */
export function augmentationsJson(augmentations: readonly Augmentation[] | undefined): { augment?: string } {
  return augmentations === undefined || augmentations.length === 0 ? {} : { augment: JSON.stringify(augmentations) };
}

function isKnown(name: string): name is KnownNormalization {
  return Object.hasOwn(normalizations, name);
}
