import { renameSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { datasets } from "../../src/data/datasets.js";
import { absoluteDataSource, parseDataSource } from "../../src/data/source.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist, writeNpyFile } from "../support/files.js";

const directory = temporaryDirectory();

describe("datasets.mnist", () => {
  test("finds the package by itself", async () => {
    const { train, test } = await datasets.mnist();
    expect(train.shape).toEqual([60000, 28, 28, 1]);
    expect(test.shape).toEqual([10000, 28, 28, 1]);
    expect([train.length, test.length, train.classes]).toEqual([60000, 10000, 10]);
  });

  test("reads another directory, under either spelling of the names", async () => {
    const small = smallMnist(join(directory, "dotted"), { train: 40, test: 20 });
    renameSync(join(small, "train-images-idx3-ubyte"), join(small, "train-images.idx3-ubyte"));
    const { train, test } = await datasets.mnist({ directory: small });
    expect([train.length, test.length]).toEqual([40, 20]);
  });

  test("names the command that unpacks what is packed", async () => {
    const small = smallMnist(join(directory, "packed"), { train: 40, test: 20 });
    const name = join(small, "t10k-labels-idx1-ubyte");
    renameSync(name, `${name}.gz`);
    await expect(datasets.mnist({ directory: small })).rejects.toMatchObject({
      code: "IO",
      message: `Expected t10k-labels-idx1-ubyte unpacked but found ${name}.gz: run \`gunzip --keep ${name}.gz\`.`,
    });
  });
});

describe("datasets.fromArrays", () => {
  test("takes labels of any kind of array", () => {
    const dataset = datasets.fromArrays(new Float32Array(12), [3, 2, 2, 1], [0, 4, 1]);
    expect([dataset.length, dataset.classes]).toEqual([3, 5]);
    expect(datasets.fromArrays(new Uint8Array(12), [3, 2, 2, 1], [0, 4, 1], 7).classes).toBe(7);
  });

  test.each([-1, 0.5, Number.NaN, 2 ** 32])("refuses the label %d", (label) => {
    expect(() => datasets.fromArrays(new Float32Array(8), [2, 2, 2, 1], [0, label])).toThrow(
      `Expected a class index for "labels[1]" but received ${label}.`,
    );
  });

  test.each<[string, () => unknown]>([
    ["too few pixels", () => datasets.fromArrays(new Float32Array(7), [2, 2, 2, 1], [0, 1])],
    ["too few labels", () => datasets.fromArrays(new Float32Array(8), [2, 2, 2, 1], [0])],
    ["a label beyond the classes", () => datasets.fromArrays(new Float32Array(8), [2, 2, 2, 1], [0, 3], 3)],
    ["no images", () => datasets.fromArrays(new Float32Array(0), [0, 2, 2, 1], [])],
  ])("refuses %s", (_, make) => {
    expect(make).toThrow(/^Expected /);
  });
});

test("datasets.fromNpy reads images and labels", async () => {
  const images = writeNpyFile(join(directory, "images.npy"), new Float32Array(2 * 4 * 3 * 2), [2, 4, 3, 2]);
  const labels = writeNpyFile(join(directory, "labels.npy"), BigInt64Array.of(1n, 0n), [2]);
  const dataset = await datasets.fromNpy(images, labels);
  expect([dataset.shape, dataset.classes]).toEqual([[2, 4, 3, 2], 2]);
});

describe("DATA on the command line", () => {
  const small = smallMnist(join(directory, "small"), { train: 30, test: 10 });

  test("mnist:DIRECTORY and fashion-mnist:DIRECTORY have training and test images", async () => {
    for (const name of ["mnist", "fashion-mnist"]) {
      const source = parseDataSource(`${name}:${small}`);
      expect((await source.train()).length).toBe(30);
      expect((await source.test()).length).toBe(10);
      expect((await source.validation())?.length).toBe(10);
    }
  });

  test("two NPY files are all there is to train and to test", async () => {
    const source = parseDataSource(`${join(directory, "images.npy")},${join(directory, "labels.npy")}`);
    expect((await source.train()).length).toBe(2);
    expect((await source.test()).length).toBe(2);
    expect(await source.validation()).toBe(undefined);
  });

  test.each(["", "mnist:", "fashion-mnist", "cifar10", "images.npy", "a.npy,b.npy,c.npy", "photos/"])(
    "%o is refused with the forms there are",
    (text) => {
      expect(() => parseDataSource(text)).toThrow(/^Expected .*(mnist:DIRECTORY|a directory after).* received ".*"\.$/);
    },
  );

  test("paths can be made absolute, names stay", () => {
    const absolute = (path: string) => `/here/${path}`;
    expect(absoluteDataSource("mnist", absolute)).toBe("mnist");
    expect(absoluteDataSource("mnist:digits", absolute)).toBe("mnist:/here/digits");
    expect(absoluteDataSource("x.npy,y.npy", absolute)).toBe("/here/x.npy,/here/y.npy");
  });
});
