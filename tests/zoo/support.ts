/** The zoo on the recipe of tests/golden/zoo.py: what the tests against PyTorch share. */
import { join } from "node:path";
import type { GraphDefinition } from "../../src/model/definition.js";
import { doctor, Session, type SessionOptions } from "../../src/native.js";
import { openGolden, relativeError } from "../support/golden.js";
import { type NamedTensor, recipeWeights, uniform, writeTensors } from "../support/recipe.js";

/** How the logits of a network were made. */
interface LogitsCase {
  readonly images: number;
  readonly input: readonly [number, number, number];
  readonly classes: number;
}

export const goldenLogits = openGolden<LogitsCase>("zoo_logits");

/** The instruction sets of this machine, the fastest first. */
export const { available: instructionSets } = (await doctor()).isa;

/** A session with the recipe's weights, perhaps changed on their way. */
export async function recipeSession(
  definition: GraphDefinition,
  directory: string,
  options: Partial<SessionOptions> = {},
  change: (weights: NamedTensor[]) => readonly NamedTensor[] = (weights) => weights,
): Promise<Session> {
  const session = new Session({ graph: JSON.stringify(definition), seed: 0, ...options });
  const weights = change(recipeWeights(definition, session.parameters()));
  await session.loadWeights(writeTensors(join(directory, "weights"), weights));
  return session;
}

/** How far a session's logits are from PyTorch's, over the largest of these. */
export async function logitsError(session: Session, name: string): Promise<number> {
  const { images = 0, input = [] } = goldenLogits.cases[name] ?? {};
  const size = input.reduce((product, side) => product * side, 1);
  return relativeError(await session.predict(uniform("images", images * size), images), goldenLogits.values(name));
}
