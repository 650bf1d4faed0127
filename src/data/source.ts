import { statSync } from "node:fs";
import { invalidArgument } from "../errors.js";
import type { Dataset } from "../native.js";
import { datasets, folderSplits, readFashionMnist, readMnist, type Split, type Splits } from "./datasets.js";

/** Height, width and channels of the images that a network reads: image files are made to fit. */
export type ImageShape = readonly [number, number, number];

/** Data as the command line names it, not read yet. */
export interface DataSource {
  /** To learn from. */
  train(shape: ImageShape): Promise<Dataset>;
  /** To judge a trained network by: the test images where the data has some, otherwise all of it. */
  test(shape: ImageShape): Promise<Dataset>;
  /** To watch while training: the test images, where the data has some. */
  validation(shape: ImageShape): Promise<Dataset | undefined>;
}

/** How data is read, where it is a directory of image files. */
export interface SourceOptions {
  /** What a file that cannot be read does; see `ImageFolderOptions`. Default `"fail"`. */
  readonly corrupt?: "fail" | "skip" | undefined;
}

/** What DATA may be. */
export const dataHelp =
  "mnist, fashion-mnist or cifar10 (each with an optional :DIRECTORY), a directory of one folder per class (or train/ " +
  "and val/ of those), or images.npy,labels.npy";

/** The data sets with names: from a directory, or where they are by default, to what reads their parts. */
const known: Readonly<Record<string, (directory: string | undefined) => (split: Split) => Promise<Dataset>>> = {
  mnist: (directory) => (split) => readMnist(split, directory),
  "fashion-mnist": (directory) => (split) => readFashionMnist(split, directory),
  cifar10: (directory) => {
    let both: Promise<Splits> | undefined; // one archive has both parts: it is read once
    return async (split) => {
      both ??= datasets.cifar10({ directory });
      return (await both)[split];
    };
  },
};

/**
 * Understands the command line's DATA, without reading anything.
 *
 * @throws FoveaError `INVALID_ARGUMENT` naming the forms there are, or for files to skip where there are none
 */
export function parseDataSource(text: string, { corrupt = "fail" }: SourceOptions = {}): DataSource {
  const source = npySource(text) ?? knownSource(text);
  if (source !== undefined && corrupt === "skip") {
    throw invalidArgument("data", "a directory of image files, of which some may be skipped,", `"${text}"`);
  }
  if (source !== undefined) return source;
  if (statSync(text, { throwIfNoEntry: false })?.isDirectory()) return folderSource(text, corrupt);
  throw invalidArgument("data", dataHelp, `"${text}"`);
}

/** Paths of a description made absolute, so that it means the same from another working directory. */
export function absoluteDataSource(text: string, resolve: (path: string) => string): string {
  if (text.includes(".npy,"))
    return text
      .split(",")
      .map((path) => resolve(path))
      .join(",");
  const { name, directory } = named(text);
  if (known[name] === undefined) return resolve(text);
  return directory === undefined ? name : `${name}:${resolve(directory)}`;
}

function named(text: string): { name: string; directory: string | undefined } {
  const colon = text.indexOf(":");
  return colon < 0
    ? { name: text, directory: undefined }
    : { name: text.slice(0, colon), directory: text.slice(colon + 1) };
}

function npySource(text: string): DataSource | undefined {
  const [images, labels, ...more] = text.split(",");
  if (!(images?.endsWith(".npy") && labels?.endsWith(".npy") && more.length === 0)) return undefined;
  const read = () => datasets.fromNpy(images, labels);
  return { train: read, test: read, validation: async () => undefined };
}

function knownSource(text: string): DataSource | undefined {
  const { name, directory } = named(text);
  const read = known[name];
  if (read === undefined) return undefined;
  if (directory === "") throw invalidArgument("data", `a directory after "${name}:"`, `"${text}"`);
  const part = read(directory);
  return { train: () => part("train"), test: () => part("test"), validation: () => part("test") };
}

function folderSource(directory: string, corrupt: "fail" | "skip"): DataSource {
  const read = async ([height, width, channels]: ImageShape) => {
    if (channels !== 1 && channels !== 3) {
      throw invalidArgument(
        "data",
        "a network that reads 1 or 3 channels for image files",
        `one that reads ${channels}`,
      );
    }
    return datasets.imageFolder(directory, { height, width, channels, corrupt });
  };
  const testOrAll = async (shape: ImageShape) => {
    const { train, test } = await read(shape);
    return test ?? train;
  };
  return {
    train: async (shape) => (await read(shape)).train,
    test: testOrAll,
    validation: async (shape) => (folderSplits(directory).test === undefined ? undefined : testOrAll(shape)),
  };
}
