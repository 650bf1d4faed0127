/** The recipe by which tests/golden/zoo.py makes weights and images: numbers that need no file. */
import { closeSync, openSync, writeSync } from "node:fs";
import type { GraphDefinition } from "../../src/model/definition.js";

/** A tensor of a safetensors file, PyTorch's shape and order. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/**
 * Values in -1..1, exact in f32: value number i is the hash (MurmurHash3's finalizer) of FNV-1a(name) + i * 0x9E3779B9, of
 * which the 24 upper bits count.
 */
export function uniform(name: string, count: number): Float32Array {
  let state = 0x811c9dc5;
  for (const byte of Buffer.from(name)) state = Math.imul(state ^ byte, 0x01000193);
  const values = new Float32Array(count);
  for (let index = 0; index < count; index += 1) {
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    z ^= z >>> 16;
    values[index] = (z >>> 8) / (1 << 23) - 1;
    state = (state + 0x9e3779b9) | 0;
  }
  return values;
}

/** The tensors of a network by the recipe, in no order that matters. */
export function recipeWeights(
  { nodes }: GraphDefinition,
  parameters: readonly { readonly name: string; readonly shape: readonly number[] }[],
): NamedTensor[] {
  const norms = new Set(nodes.filter(({ op }) => op === "batchNorm").map(({ name }) => `${name}.weight`));
  const branchEnds = new Set(nodes.filter(({ op }) => op === "add").map(({ inputs: [branch] }) => `${branch}.weight`));
  const statistics = parameters
    .filter(({ name }) => norms.has(name))
    .flatMap(({ name, shape }) =>
      ["running_mean", "running_var"].map((statistic) => ({ name: name.replace(/weight$/, statistic), shape })),
    );
  return [...parameters, ...statistics].map(({ name, shape }) => {
    const [, ...fan] = shape;
    const values = uniform(
      name,
      shape.reduce((product, size) => product * size, 1),
    );
    const isVector = fan.length === 0;
    const scale = Math.fround(isVector ? 0.2 : Math.sqrt(6 / fan.reduce((product, size) => product * size, 1)));
    const middle = isVector && /(weight|running_var)$/.test(name) ? 1 : 0;
    const factor = branchEnds.has(name) ? 0.25 : 1;
    // Each operation rounds to f32, as in NumPy.
    for (let index = 0; index < values.length; index += 1) {
      values[index] = factor * Math.fround(Math.fround((values[index] ?? 0) * scale) + middle);
    }
    return { name, shape, values };
  });
}

/** Writes tensors as safetensors, one after the other, so that a large network is not in memory twice. */
export function writeTensors(path: string, tensors: readonly NamedTensor[]): string {
  let end = 0;
  const header = tensors.map(({ name, shape, values }) => {
    const begin = end;
    end += values.byteLength;
    return [name, { dtype: "F32", shape, data_offsets: [begin, end] }];
  });
  const text = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = openSync(path, "w");
  try {
    for (const bytes of [length, text, ...tensors.map(({ values }) => new Uint8Array(values.buffer))]) {
      for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
    }
  } finally {
    closeSync(file);
  }
  return path;
}
