import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { datasets } from "../../src/data/datasets.js";
import { parseDataSource } from "../../src/data/source.js";
import { input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import { decodeImages } from "../../src/native.js";
import { fovea, foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { writePng } from "../support/files.js";

const directory = temporaryDirectory();

/** Folders of a class each, with images of 6 x 4 pixels, each of another red. */
function makeFolder(name: string, classes: readonly string[], count: number): string {
  const root = join(directory, name);
  for (const [label, folder] of classes.entries()) {
    for (let index = 0; index < count; index++) {
      writePng(join(root, folder, `${index}.png`), 6, 4, [label * 100 + index, 0, 255]);
    }
  }
  return root;
}

test("one folder per class is all there is to train on", async () => {
  const root = makeFolder("plain", ["dogs", "cats"], 3);
  const { train, test } = await datasets.imageFolder(root, { height: 4, width: 4 });
  expect([train.shape, train.classNames, test]).toEqual([[6, 4, 4, 3], ["cats", "dogs"], undefined]);
  const { mean } = await train.statistics();
  expect(mean.map((value) => Math.round(value * 255 * 1e6) / 1e6)).toEqual([51, 0, 255]);
  const [most, rest] = train.split(1 / 3, 1);
  expect([most.length, rest.length, rest.classNames]).toEqual([4, 2, ["cats", "dogs"]]);
});

test("train and val have the same labels, whichever classes val has", async () => {
  makeFolder("both/train", ["a", "b", "c"], 2);
  makeFolder("both/val", ["c"], 1);
  const folder = join(directory, "both");
  const { train, test } = await datasets.imageFolder(folder, { height: 4, width: 4, channels: 1, resize: "stretch" });
  expect([train.length, train.shape]).toEqual([6, [6, 4, 4, 1]]);
  expect([test?.length, test?.classNames]).toEqual([1, ["a", "b", "c"]]);
  const source = parseDataSource(folder);
  expect((await source.train([5, 7, 3])).shape).toEqual([6, 5, 7, 3]);
  expect((await source.test([4, 4, 3])).length).toBe(1);
  expect((await source.validation([4, 4, 3]))?.length).toBe(1);
  await expect(source.train([4, 4, 2])).rejects.toThrow(/1 or 3 channels for image files/);
});

test("a damaged file ends training with its name, or is skipped and named afterwards", async () => {
  const root = makeFolder("damaged", ["a", "b"], 4);
  const file = join(root, "b", "2.png");
  truncateSync(file, readFileSync(file).length - 30);
  const net = model(input(4, 4, 3), (x) => x.flatten().dense(2));
  const options = { height: 4, width: 4 };
  const { train: strict } = await datasets.imageFolder(root, options);
  await expect(net.fit(strict, { epochs: 1 })).rejects.toMatchObject({
    code: "INVALID_DATA",
    message: expect.stringContaining(`Expected a whole PNG image for "${file}" but received a damaged one`),
  });
  const { train } = await datasets.imageFolder(root, { ...options, corrupt: "skip" });
  expect(train.skipped).toEqual([]);
  expect((await net.fit(train, { epochs: 2, batchSize: 3 })).steps).toBe(6);
  expect(train.skipped.map((each) => each.file)).toEqual([file]);
  expect((await net.evaluate(train)).images).toBe(7);
  await net.close();
});

test.each<[string, object, RegExp]>([
  ["nowhere", {}, /^Expected a directory of images in .*nowhere but there is nothing\.$/],
  ["plain", { height: 0 }, /for "height" but received 0/],
  ["plain", { resize: "tile" }, /^Expected "crop" or "stretch" for "resize" but received "tile"\.$/],
  ["plain", { corrupt: "ignore" }, /^Expected "fail" or "skip" for "corrupt" but received "ignore"\.$/],
  ["plain", { classes: ["cats"] }, /^Expected one of the known classes for a folder of .* but found "dogs"\.$/],
])("%s with %o is refused", async (name, options, message) => {
  const path = join(directory, name);
  await expect(datasets.imageFolder(path, { height: 4, width: 4, ...options })).rejects.toThrow(message);
});

test("decodeImages gives files as a network takes them", async () => {
  const paths = [10, 20].map((red) => join(directory, `${red}.png`));
  for (const [index, path] of paths.entries()) writePng(path, 8, 8, [10 + 10 * index, 0, 255]);
  const images = await decodeImages(paths, { height: 2, width: 2, channels: 3 });
  expect(images).toHaveLength(24);
  expect([images[0], images[12], images[14]]).toEqual([10, 20, 255].map((value) => Math.fround(value / 255)));
  const text = join(directory, "text.png");
  writeFileSync(text, "text");
  await expect(decodeImages([...paths, text], { height: 2, width: 2, channels: 3 })).rejects.toMatchObject({
    code: "INVALID_DATA",
    message: expect.stringContaining("text.png"),
  });
});

test("the command line trains and evaluates on a directory", async () => {
  const root = makeFolder("cli", ["dark", "light"], 6);
  const run = join(directory, "run");
  const options = ["--data", root, "--steps", "3", "--batch", "4", "--threads", "1"];
  expect(await foveaJson(["train", "resnet20", ...options, "--out", run])).toMatchObject({ steps: 3 });
  expect(await foveaJson(["eval", run, "--data", root])).toMatchObject({ images: 12 });
});

test("the command line is told by --corrupt to go on without damaged files, and names them", async () => {
  const root = makeFolder("cli-damaged", ["dark", "light"], 6);
  const file = join(root, "light", "3.png");
  truncateSync(file, readFileSync(file).length - 30);
  const run = join(directory, "damaged-run");
  const options = ["--data", root, "--epochs", "2", "--batch", "4", "--out", run];
  const strict = await fovea(["train", "resnet20", ...options]);
  expect([strict.exitCode, strict.stderr]).toEqual([1, expect.stringContaining(`whole PNG image for "${file}"`)]);
  rmSync(run, { recursive: true });
  const lenient = await fovea(["train", "resnet20", ...options, "--corrupt", "skip"]);
  const note = expect.stringMatching(/^note: 1 file left out: .*3\.png \(expected a whole PNG image but received/m);
  expect([lenient.exitCode, lenient.stderr]).toEqual([0, note]);
  const evaluated = await fovea(["eval", run, "--data", root, "--corrupt", "skip", "--json"]);
  expect([JSON.parse(evaluated.stdout).images, evaluated.stderr]).toEqual([11, note]);
  const elsewhere = await fovea(["eval", run, "--data", "cifar10", "--corrupt", "skip"]);
  expect([elsewhere.exitCode, elsewhere.stderr]).toEqual([2, expect.stringContaining("directory of image files")]);
});
