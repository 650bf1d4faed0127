// Disassembles the addon and fails when the inner loop of a kernel spills vector registers: `npm run check:kernels`.
//
//   node --import tsx scripts/check-kernels.ts [program] [--objdump <program>] [--listing <file>]
//
// program    what to disassemble, built with line tables, as cargo's release profile has them; build/Release/fovea.node
// --objdump  binutils' objdump for the program's processor: `aarch64-linux-gnu-objdump`; objdump
// --listing  what objdump printed, read from a file instead

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Kernel, kernelsOf, type Loop, objdumpOptions } from "./inner-loops.js";

/** Loops with fewer multiply-adds are remainders and borders, not what a kernel spends its time in. */
const FEWEST_MULTIPLY_ADDS = 4;

/** The modules of the instruction sets that a program for a processor must have. */
const SETS: Readonly<Record<string, readonly string[]>> = { "x86-64": ["avx2", "avx512"], aarch64: ["neon"] };

/** Register tiles, and the multiply-adds of a step: the product of these type parameters. */
const TILES: readonly { kernel: RegExp; step: (parameters: readonly number[]) => number }[] = [
  { kernel: /^conv2d::tile::product::Product</, step: ([rows = 0, vectors = 0]) => rows * vectors },
  {
    kernel: /^conv2d::tile::reduction::Reduction</,
    step: ([groups = 0, elements = 0, vectors = 0]) => groups * elements * vectors,
  },
];

/**
 * The share of a loop's instructions that may touch the stack in a kernel that is no register tile: depthwise convolutions
 * hold a few more vectors than there are registers, and some of them have to wait.
 */
const LARGEST_SHARE = 1 / 8;

/** Winograd's transforms hold a block of 6 x 6 vectors, where AVX2 has sixteen registers: most of a block waits. */
const TRANSFORM = { kernel: /winograd.*::Transform/, largestShare: 1 / 4 };

interface Row {
  readonly kernel: Kernel;
  readonly loop: Loop | undefined;
  /** What is wrong with it, if anything is. */
  readonly complaint: string | undefined;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { objdump: { type: "string", default: "objdump" }, listing: { type: "string" } },
});
const program = positionals[0] ?? fileURLToPath(new URL("../build/Release/fovea.node", import.meta.url));
const listing = values.listing ? readFileSync(values.listing, "utf8") : disassemble(program, values.objdump);
const processor = /file format elf64-(?:little)?(\S+)/.exec(listing)?.[1] ?? "unknown";
const sets = SETS[processor];
if (!sets) fail(`Expected a program for x86-64 or aarch64 but received one for "${processor}".`);

const kernels = kernelsOf(listing);
for (const set of sets) {
  for (const { kernel } of TILES) {
    if (!kernels.some((one) => one.set === set && kernel.test(one.name))) {
      fail(
        `Expected register tiles ${kernel.source} of ${set} in ${program} but found none: is it built with line tables?`,
      );
    }
  }
}
const rows = kernels
  .filter(({ set }) => sets.includes(set))
  .map(judge)
  .filter(({ loop, complaint }) => loop || complaint)
  .sort((a, b) => label(a).localeCompare(label(b), "en", { numeric: true }));
printTable(rows);
const bad = rows.filter(({ complaint }) => complaint);
if (bad.length > 0) {
  fail(bad.map((row) => `Expected an inner loop on registers but ${label(row)} ${row.complaint}.`).join("\n"));
}
console.log(`${rows.length} inner loops on ${sets.join(" and ")}: no tile spills.`);

function disassemble(program: string, objdump: string): string {
  const { error, status, stdout, stderr } = spawnSync(objdump, [...objdumpOptions, program], {
    encoding: "utf8",
    maxBuffer: 2 ** 29,
  });
  if (error) fail(`Expected ${objdump} (install binutils) but received ${error.message}.`);
  if (status !== 0) fail(`Expected "${objdump}" to disassemble ${program} but received: ${stderr.trim()}`);
  return stdout;
}

/** The loop that decides about a kernel: the one with the most traffic, among equals the one with the most work. */
function judge(kernel: Kernel): Row {
  const [loop] = kernel.loops
    .filter(({ multiplyAdds }) => multiplyAdds >= FEWEST_MULTIPLY_ADDS)
    .sort((a, b) => shareOnStack(b) - shareOnStack(a) || b.multiplyAdds - a.multiplyAdds);
  return { kernel, loop, complaint: complaintAbout(kernel, loop) };
}

function shareOnStack({ stackLoads, stackStores, instructions }: Loop): number {
  return (stackLoads + stackStores) / instructions;
}

function complaintAbout({ name, loops }: Kernel, loop: Loop | undefined): string | undefined {
  const tile = TILES.find(({ kernel }) => kernel.test(name));
  const step = tile?.step([...name.matchAll(/\d+(?=[,>])/g)].map(Number));
  if (step && !loops.some(({ multiplyAdds }) => multiplyAdds > 0 && multiplyAdds % step === 0)) {
    return `has no loop of ${step} multiply-adds: it is not unrolled`;
  }
  const largest = TRANSFORM.kernel.test(name) ? TRANSFORM.largestShare : LARGEST_SHARE;
  if (!loop || shareOnStack(loop) <= (tile ? 0 : largest)) return undefined;
  return `touches the stack with ${loop.stackLoads + loop.stackStores} of ${loop.instructions} instructions`;
}

function label({ kernel }: Row): string {
  return `${kernel.set} ${kernel.name}`;
}

function printTable(rows: readonly Row[]): void {
  const width = Math.max(...rows.map((row) => label(row).length));
  const line = (...[name = "", ...numbers]: string[]) =>
    console.log(name.padEnd(width) + numbers.map((number) => number.padStart(15)).join(""));
  line("kernel", "multiply-adds", "instructions", "vector loads", "stack loads", "stack stores");
  for (const { kernel, loop, ...row } of rows) {
    const { multiplyAdds = 0, instructions = 0, loads = 0, stackLoads = 0, stackStores = 0 } = loop ?? {};
    const numbers = [multiplyAdds, instructions, loads, stackLoads, stackStores];
    line(label({ kernel, loop, ...row }), ...numbers.map(String));
  }
}

function fail(sentence: string): never {
  console.error(sentence);
  process.exit(1);
}
