/** Every network of the zoo computes what PyTorch computes of the same weights and images (tests/golden/zoo.py). */
import { join } from "node:path";
import { expect, test } from "vitest";
import { Session } from "../../src/native.js";
import { architecture, architectures } from "../../src/zoo/index.js";
import { temporaryDirectory } from "../support/directory.js";
import { recipeWeights, writeTensors } from "../support/recipe.js";
import { goldenLogits, instructionSets, logitsError } from "./support.js";

const directory = temporaryDirectory();
/** What portable code computes in a moment. */
const small = ["lenet5", "resnet20", "mobilenet-0.25"];

test.each(Object.entries(goldenLogits.cases))("%s gives PyTorch's logits", async (name, sizes) => {
  const { definition } = architecture(name).create(sizes);
  const graph = JSON.stringify(definition);
  let weights: string | undefined;
  for (const isa of instructionSets.filter((isa) => isa !== "scalar" || small.includes(name))) {
    for (const precision of ["fast", "strict"]) {
      const session = new Session({ graph, seed: 0, isa, precision });
      weights ??= writeTensors(join(directory, "weights"), recipeWeights(definition, session.parameters()));
      await session.loadWeights(weights);
      expect(await logitsError(session, name), `${isa} ${precision}`).toBeLessThan(1e-4);
      await session.close();
    }
  }
});

test("every network of the zoo is held against PyTorch", () => {
  const names = architectures.map(({ name }) => name);
  expect(Object.keys(goldenLogits.cases).toSorted()).toEqual(names.toSorted());
});
