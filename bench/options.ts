/** The options that the commands of the benchmark share. */

import { availableParallelism } from "node:os";
import { InvalidArgumentError, Option } from "commander";
import { positiveInteger } from "../src/cli/options.js";
import { printNote } from "../src/cli/output.js";
import { architectures } from "../src/zoo/index.js";
import { type Network, networks } from "./cases.js";

/** Reads names apart by commas, each of them one of a list. */
export function oneOf<Item>(items: readonly Item[], name: (item: Item) => string): (text: string) => Item[] {
  return (text) =>
    text.split(",").map((word) => {
      const found = items.find((item) => name(item) === word.trim());
      if (found !== undefined) return found;
      throw new InvalidArgumentError(`Expected ${items.map(name).join(", ")} but received "${word}".`);
    });
}

/** An option that takes some of a list, all unless told otherwise. */
export function someOf<Item>(flags: string, items: readonly Item[], name: (item: Item) => string): Option {
  const all = items.map(name).join(",");
  return new Option(flags, "apart by commas").argParser(oneOf(items, name)).default(items, all);
}

export const networksOption = (): Option => someOf("--networks <names>", networks, ({ name }) => name);

export const isaOption = (description: string): Option =>
  new Option("--isa <set>", description).choices(["avx512", "avx2", "neon", "scalar"]);

export const threadsOption = (description: string): Option =>
  new Option("--threads <n>", description)
    .argParser(positiveInteger)
    .default(Math.min(2, availableParallelism()), "two, where the machine has them");

/** The networks that the zoo has; the others are told. */
export function knownNetworks(wanted: readonly Network[]): Network[] {
  return wanted.filter(({ name }) => {
    const known = architectures.some((entry) => entry.name === name);
    if (!known) printNote(`${name} is left out, the zoo does not have it`);
    return known;
  });
}
