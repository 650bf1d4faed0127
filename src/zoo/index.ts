/** The zoo: the architectures that made the field, each with the counts of its paper. */
import { invalidArgument } from "../errors.js";
import { alexnet, alexnetTorchvision } from "./alexnet.js";
import type { Architecture } from "./architecture.js";
import { googlenet, googlenetTorchvision } from "./googlenet.js";
import { lenet5, lenet51998 } from "./lenet.js";
import { convMobilenet, mobilenet, mobilenets } from "./mobilenet.js";
import {
  resnet18,
  resnet20,
  resnet32,
  resnet34,
  resnet44,
  resnet50,
  resnet56,
  resnet101,
  resnet110,
  resnet152,
} from "./resnet.js";

export type { Architecture, Entry, Network, ZooOptions } from "./architecture.js";
export type { MobilenetOptions } from "./mobilenet.js";
export {
  alexnet,
  alexnetTorchvision,
  convMobilenet,
  googlenet,
  googlenetTorchvision,
  lenet5,
  lenet51998,
  mobilenet,
  resnet18,
  resnet20,
  resnet32,
  resnet34,
  resnet44,
  resnet50,
  resnet56,
  resnet101,
  resnet110,
  resnet152,
};

/** Every architecture, in the order of their years. */
export const architectures: readonly Architecture[] = [
  lenet5.architecture,
  lenet51998.architecture,
  alexnet.architecture,
  alexnetTorchvision.architecture,
  googlenet.architecture,
  googlenetTorchvision.architecture,
  resnet18.architecture,
  resnet34.architecture,
  resnet50.architecture,
  resnet101.architecture,
  resnet152.architecture,
  resnet20.architecture,
  resnet32.architecture,
  resnet44.architecture,
  resnet56.architecture,
  resnet110.architecture,
  ...mobilenets,
  convMobilenet.architecture,
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
