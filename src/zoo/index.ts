/** The zoo: the architectures that made the field, each with the counts of its paper. */
import { invalidArgument } from "../errors.js";
import type { Architecture } from "./architecture.js";
import { lenet5, lenet5Recipe } from "./lenet.js";

export type { Architecture, ZooOptions } from "./architecture.js";
export { lenet5 };

/** Every architecture, in the order of their years. */
export const architectures: readonly Architecture[] = [
  {
    name: "lenet5",
    year: 1998,
    paper: "LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
    input: [28, 28, 1],
    classes: 10,
    recipe: lenet5Recipe,
    create: lenet5,
  },
];

/**
 * Finds an architecture by name.
 *
 * @param name as the command line has it: `"lenet5"`
 * @throws FoveaError `INVALID_ARGUMENT` with the names there are
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * const lenet = zoo.architecture("lenet5").create({ classes: 26 });
 * console.log(lenet.outputShape); // [ 26 ]
 * ```
 */
export function architecture(name: string): Architecture {
  const found = architectures.find((each) => each.name === name);
  if (found !== undefined) return found;
  throw invalidArgument("model", `one of ${architectures.map((each) => each.name).join(", ")}`, `"${name}"`);
}
