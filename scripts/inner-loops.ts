// Reads what objdump prints of a program: the kernels in it and their innermost loops.
//
// A kernel is compiled once per instruction set, into a function of its own: `Simd::enter`, or what that jumps to where
// the set is not every processor's. The function's symbol says which set, the debug information which kernel.

/** One call of objdump prints the instructions and, of the debug information, the functions without what was inlined. */
export const objdumpOptions = [
  ...["--file-headers", "--disassemble", "--no-show-raw-insn", "--demangle"],
  ...["--dwarf=info", "--dwarf-depth=2"],
];

/** What an iteration of a loop executes. */
export interface Loop {
  readonly instructions: number;
  /** Multiply-adds on vectors or scalars of vector registers. */
  readonly multiplyAdds: number;
  /** Vector instructions that read memory, the stack aside. */
  readonly loads: number;
  /** Vector instructions that read the stack: registers that were spilled. */
  readonly stackLoads: number;
  /** Vector instructions that write the stack. */
  readonly stackStores: number;
}

/** A kernel on one instruction set. */
export interface Kernel {
  /** The module of the set: `avx2`. */
  readonly set: string;
  /** The Rust type, `conv2d::tile::product::Product<14, 2, 0>`. */
  readonly name: string;
  /** Its loops that hold no other loop. */
  readonly loops: readonly Loop[];
}

interface Instruction {
  readonly address: number;
  readonly text: string;
}

/** A run of instructions without a jump into or out of its middle: `start` to before `end`, then one of `next`. */
interface Block {
  readonly start: number;
  readonly end: number;
  readonly next: readonly number[];
}

const entry = /<fovea_kernels::simd::(\w+)::\w+ as fovea_kernels::simd::Simd>::enter(?:::inner)?$/;

/** Every kernel in a listing, in the order of its functions. */
export function kernelsOf(listing: string): Kernel[] {
  const names = namesOf(listing);
  const kernels = functionsOf(listing).map(({ set, instructions }) => {
    const name = names.get(instructions[0]?.address ?? 0) ?? "";
    const kernel = /^(?:enter|inner)<(.*)>$/.exec(name)?.[1] ?? "(no name)";
    return { set, name: kernel.replaceAll("fovea_kernels::", ""), isEntry: name.startsWith("enter<"), instructions };
  });
  const inner = new Set(kernels.filter(({ isEntry }) => !isEntry).map(({ set, name }) => `${set} ${name}`));
  return kernels
    .filter(({ set, name, isEntry }) => !isEntry || !inner.has(`${set} ${name}`))
    .map(({ set, name, instructions }) => ({ set, name, loops: innermostLoops(instructions) }));
}

/** The names that the debug information has for functions, by the address at which they begin. */
function namesOf(listing: string): Map<number, string> {
  const names = new Map<string, string>(); // by the place in the debug information
  const places = new Map<number, string>(); // by address: the function's place, or that of what it is an instance of
  let [place, address] = ["", 0];
  for (const match of listing.matchAll(
    /^ <\d+><(?<entity>\w+)>|^ +<\w+> +DW_AT_(?<attribute>low_pc|name|abstract_origin) *: (?<value>.*)$/gm,
  )) {
    const { entity, attribute, value = "" } = match.groups ?? {};
    if (entity) [place, address] = [entity, 0];
    if (attribute === "name") names.set(place, value.replace(/^\(.*?\): /, "").trim());
    if (attribute === "low_pc") address = Number.parseInt(value, 16);
    if (attribute === "low_pc") places.set(address, place);
    if (attribute === "abstract_origin" && address) places.set(address, /<0x(\w+)>/.exec(value)?.[1] ?? "");
  }
  return new Map([...places].map(([address, place]) => [address, names.get(place) ?? ""]));
}

/** The functions that enter an instruction set. */
function functionsOf(listing: string): { set: string; instructions: Instruction[] }[] {
  const functions = [];
  let instructions: Instruction[] | undefined;
  for (const line of listing.split("\n")) {
    const symbol = /^[0-9a-f]+ <(.*)>:$/.exec(line)?.[1];
    if (symbol) {
      const set = entry.exec(symbol)?.[1];
      instructions = set ? [] : undefined;
      if (set && instructions) functions.push({ set, instructions });
    }
    const [, address, text] = (instructions && /^ *([0-9a-f]+):\t(.*)$/.exec(line)) ?? [];
    if (address && text) instructions?.push({ address: Number.parseInt(address, 16), text });
  }
  return functions;
}

function innermostLoops(instructions: readonly Instruction[]): Loop[] {
  const blocks = blocksOf(instructions);
  const stack = stackMemory(instructions);
  return innermost(blocks, new Set(blocks.keys()), new Set()).map((loop) =>
    count(
      loop.flatMap((index) => {
        const { start = 0, end = 0 } = blocks[index] ?? {};
        return instructions.slice(start, end).map(({ text }) => text);
      }),
      stack,
    ),
  );
}

function blocksOf(instructions: readonly Instruction[]): Block[] {
  const index = new Map(instructions.map(({ address }, at) => [address, at]));
  const targetOf = (text: string) => {
    const target = /^(?:j\w+|b|b\.\w+|cbn?z|tbn?z)\s(?:.*?\s)?(?:0x)?([0-9a-f]+) </.exec(text)?.[1];
    return target === undefined ? undefined : index.get(Number.parseInt(target, 16));
  };
  const isJump = (text: string) => /^(?:j|ret|ud|b\b|b\.|br\b|cbn?z|tbn?z)/.test(text);
  const fallsThrough = (text: string) => !/^(?:jmp|ret|ud|b\s|br\s)/.test(text);
  const leaders = new Set([0]);
  instructions.forEach(({ text }, at) => {
    const target = targetOf(text);
    if (target !== undefined) leaders.add(target);
    if (isJump(text)) leaders.add(at + 1);
  });
  const starts = [...leaders].filter((at) => at < instructions.length).sort((a, b) => a - b);
  const blockAt = new Map(starts.map((start, block) => [start, block]));
  return starts.map((start, block) => {
    const end = starts[block + 1] ?? instructions.length;
    const last = instructions[end - 1]?.text ?? "";
    const after = [targetOf(last), fallsThrough(last) ? end : undefined];
    const next = after.flatMap((at) => (at === undefined ? [] : (blockAt.get(at) ?? [])));
    return { start, end, next };
  });
}

/**
 * The loops that hold no other among some blocks, as lists of blocks; a jump to a `header` does not count.
 *
 * A loop is a set of blocks that all reach each other. It holds another if that still is so without its own header, the
 * block through which it is entered.
 */
function innermost(blocks: readonly Block[], among: ReadonlySet<number>, headers: ReadonlySet<number>): number[][] {
  const next = (block: number) => (blocks[block]?.next ?? []).filter((to) => among.has(to) && !headers.has(to));
  const cycles = components([...among], next).filter(
    (cycle) => cycle.length > 1 || cycle.some((block) => next(block).includes(block)),
  );
  return cycles.flatMap((cycle) => {
    const inside = new Set(cycle);
    const entered = cycle.filter((block) => blocks.some(({ next }, from) => !inside.has(from) && next.includes(block)));
    const within = innermost(blocks, inside, new Set([...headers, ...(entered.length > 0 ? entered : cycle)]));
    return within.length > 0 ? within : [cycle];
  });
}

/** Strongly connected components (Tarjan 1972). */
function components(nodes: readonly number[], next: (node: number) => number[]): number[][] {
  const found: number[][] = [];
  const order = new Map<number, number>();
  const lowest = new Map<number, number>();
  const path: number[] = [];
  const visit = (node: number): number => {
    order.set(node, order.size);
    let low = order.size - 1;
    path.push(node);
    for (const to of next(node)) {
      if (!order.has(to)) low = Math.min(low, visit(to));
      else if (path.includes(to)) low = Math.min(low, order.get(to) ?? low);
    }
    lowest.set(node, low);
    if (low === order.get(node)) found.push(path.splice(path.indexOf(node)));
    return low;
  };
  for (const node of nodes) if (!order.has(node)) visit(node);
  return found;
}

/** Memory on the stack: the frame pointer's too, in a function that begins by making it one. */
function stackMemory(instructions: readonly Instruction[]): RegExp {
  const framed = instructions.slice(0, 8).some(({ text }) => /^mov\s+(?:%rsp,%rbp|x29, sp)|^add\s+x29, sp/.test(text));
  return framed ? /\(%r[sb]p|\[(?:sp|x29)\b/ : /\(%rsp|\[sp\b/;
}

function count(loop: readonly string[], stack: RegExp): Loop {
  const touching = loop.filter((text) => /\(,?%|\[(?:x\d|sp)/.test(text) && /%[xyz]mm\d|\b[qdsv]\d+\b/.test(text));
  const writes = (text: string) => /^st|\)(?:\{%k\d\})?$/.test(text);
  const onStack = touching.filter((text) => stack.test(text));
  return {
    instructions: loop.length,
    multiplyAdds: loop.filter((text) => /^vfn?m(?:add|sub)|^fn?ml[as]|^fn?m(?:add|sub)/.test(text)).length,
    loads: touching.filter((text) => !stack.test(text) && !writes(text)).length,
    stackLoads: onStack.filter((text) => !writes(text)).length,
    stackStores: onStack.filter(writes).length,
  };
}
