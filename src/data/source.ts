import { invalidArgument } from "../errors.js";
import type { Dataset } from "../native.js";
import { datasets } from "./datasets.js";
import { mnistDataDirectory, readIdxSplit } from "./idx-directory.js";

/** Data as the command line names it, not read yet. */
export interface DataSource {
  /** To learn from. */
  train(): Promise<Dataset>;
  /** To judge a trained network by: the test images where the data has some, otherwise all of it. */
  test(): Promise<Dataset>;
  /** To watch while training: the test images, where the data has some. */
  validation(): Promise<Dataset | undefined>;
}

const forms = "mnist, mnist:DIRECTORY, fashion-mnist:DIRECTORY or images.npy,labels.npy";

/**
 * Understands the command line's DATA, without touching a file.
 *
 * @throws FoveaError `INVALID_ARGUMENT` naming the forms there are
 */
export function parseDataSource(text: string): DataSource {
  const [images, labels, ...more] = text.split(",");
  if (images?.endsWith(".npy") && labels?.endsWith(".npy") && more.length === 0) return npySource(images, labels);
  const colon = text.indexOf(":");
  const name = colon < 0 ? text : text.slice(0, colon);
  const directory = colon < 0 ? undefined : text.slice(colon + 1);
  if (directory === "") throw invalidArgument("data", `a directory after "${name}:"`, `"${text}"`);
  if (name === "mnist") return idxSource(() => directory ?? mnistDataDirectory());
  if (name === "fashion-mnist" && directory !== undefined) return idxSource(() => directory);
  throw invalidArgument("data", forms, `"${text}"`);
}

/** Paths of a description made absolute, so that it means the same from another working directory. */
export function absoluteDataSource(text: string, resolve: (path: string) => string): string {
  if (text.includes(","))
    return text
      .split(",")
      .map((path) => resolve(path))
      .join(",");
  const colon = text.indexOf(":");
  return colon < 0 ? text : `${text.slice(0, colon)}:${resolve(text.slice(colon + 1))}`;
}

function npySource(images: string, labels: string): DataSource {
  const read = () => datasets.fromNpy(images, labels);
  return { train: read, test: read, validation: async () => undefined };
}

function idxSource(directory: () => string): DataSource {
  const test = async () => readIdxSplit(directory(), "test");
  return { train: async () => readIdxSplit(directory(), "train"), test, validation: test };
}
