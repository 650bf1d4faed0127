/** The names and shapes of torchvision's tensors, which tests/golden/state_dicts.py wrote down. */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { Model } from "../../src/model/model.js";
import { architecture } from "../../src/zoo/index.js";

type Shapes = Readonly<Record<string, readonly number[]>>;

const stateDicts: Readonly<Record<string, Shapes>> = JSON.parse(
  await readFile(new URL("../golden/state_dicts.json", import.meta.url), "utf8"),
);

test.each(Object.entries(stateDicts))("%s has torchvision's tensors", async (name, expected) => {
  const model = new Model(architecture(name).create().definition, { threads: 1 });
  const tensors = model.session.parameters().map(({ name, shape }) => [name, shape]);
  await model.close();
  const trained = Object.entries(expected).filter(([tensor]) => !/running_|num_batches/.test(tensor));
  expect(Object.fromEntries(tensors)).toEqual(Object.fromEntries(trained));
});
