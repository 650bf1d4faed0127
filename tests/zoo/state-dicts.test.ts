/** The names, shapes and types of torchvision's tensors, which tests/golden/state_dicts.py wrote down. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Model } from "../../src/model/model.js";
import { architecture } from "../../src/zoo/index.js";
import { temporaryDirectory } from "../support/directory.js";
import { readSafetensors } from "../support/files.js";

type Shapes = Readonly<Record<string, readonly number[]>>;

const directory = temporaryDirectory();
const stateDicts: Readonly<Record<string, Shapes>> = JSON.parse(
  await readFile(new URL("../golden/state_dicts.json", import.meta.url), "utf8"),
);

test.each(Object.entries(stateDicts))("%s is saved as torchvision's state_dict, all of it", async (name, expected) => {
  const model = new Model(architecture(name).create().definition, { threads: 1 });
  const path = join(directory, "weights.safetensors");
  await model.save(path);
  await model.load(path);
  await model.close();
  const tensors = Object.entries(readSafetensors(path).header);
  expect(Object.fromEntries(tensors.map(([tensor, { shape }]) => [tensor, shape]))).toEqual(expected);
  for (const [tensor, { dtype }] of tensors) {
    expect([tensor, dtype]).toEqual([tensor, tensor.endsWith(".num_batches_tracked") ? "I64" : "F32"]);
  }
});
