import { readFileSync } from "node:fs";

/** A golden file of tests/golden: what was run, and the tensors that PyTorch computed. */
export interface Golden<Case> {
  readonly cases: Readonly<Record<string, Case>>;
  /** @throws when there is no tensor of that name */
  values(name: string): Float32Array;
  /** Names of all tensors that begin so, without that beginning. */
  names(prefix: string): string[];
}

/** Reads `tests/golden/NAME.safetensors`, whose tensors are f32. */
export function openGolden<Case>(name: string): Golden<Case> {
  const bytes = readFileSync(new URL(`../golden/${name}.safetensors`, import.meta.url));
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata, ...header } = JSON.parse(bytes.toString("utf8", 8, 8 + length));
  return {
    cases: JSON.parse(metadata.cases),
    values(tensor) {
      const [from, to]: [number, number] = header[tensor].data_offsets;
      return new Float32Array(new Uint8Array(bytes.subarray(8 + length + from, 8 + length + to)).buffer);
    },
    names: (prefix) =>
      Object.keys(header)
        .filter((tensor) => tensor.startsWith(prefix))
        .map((tensor) => tensor.slice(prefix.length)),
  };
}

/** The largest difference, over the largest of the expected values; NaN where a value is none. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.NaN;
  const pairs = Array.from(expected, (value, index) => Math.abs((actual[index] ?? Number.NaN) - value));
  return Math.max(...pairs) / Math.max(...Array.from(expected, Math.abs));
}
