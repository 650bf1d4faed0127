import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { fovea, foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";

const directory = temporaryDirectory();
const path = (...names: string[]): string => join(directory, ...names);

/** A grey PNG of bright stripes, upright or lying, on a dark ground. */
function stripes(upright: boolean, phase: number): Buffer {
  const side = 16;
  const rows = Array.from({ length: side }, (_, y) => [
    0, // no filter
    ...Array.from({ length: side }, (_, x) => (((upright ? x : y) + phase) % 4 < 2 ? 220 : 30)),
  ]);
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
    const framed = Buffer.alloc(body.length + 8);
    framed.writeUInt32BE(data.length, 0);
    body.copy(framed, 4);
    framed.writeUInt32BE(checksum(body), body.length + 4);
    return framed;
  };
  const header = Buffer.from([0, 0, 0, side, 0, 0, 0, side, 8, 0, 0, 0, 0]);
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(Buffer.from(rows.flat()))),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** CRC-32 as PNG has it. */
function checksum(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

beforeAll(async () => {
  for (const [name, upright] of [
    ["lying", false],
    ["upright", true],
  ] as const) {
    mkdirSync(path("data", name), { recursive: true });
    for (const phase of [0, 1, 2, 3]) writeFileSync(path("data", name, `${phase}.png`), stripes(upright, phase));
  }
  const source = `import { input, model } from "${new URL("../../dist/index.js", import.meta.url).href}";
    export default model(input(16, 16, 1), (x) => x.conv(8, 3).relu().maxPool(2).flatten().dense(2));`;
  writeFileSync(path("net.mjs"), source);
  const options = ["--epochs", "30", "--batch", "4", "--lr", "0.05", "--augment", "normalize"];
  await foveaJson(["train", path("net.mjs"), "--data", path("data"), "--out", path("run"), ...options]);
});

describe("predict", () => {
  const [lying, upright] = [path("data", "lying", "2.png"), path("data", "upright", "1.png")];

  test("says what is on pictures, by the names of the classes", async () => {
    const predictions = await foveaJson(["predict", path("run"), lying, upright]);
    expect(predictions).toEqual([
      {
        file: lying,
        classes: [expect.objectContaining({ label: "lying" }), expect.objectContaining({ label: "upright" })],
      },
      { file: upright, classes: [expect.objectContaining({ label: "upright" }), expect.anything()] },
    ]);
    for (const { classes } of Object.values(predictions) as { classes: { probability: number }[] }[]) {
      expect(classes[0]?.probability).toBeGreaterThan(0.9);
      expect(classes.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 5);
    }
  });

  test("is as sure of the training images as evaluation is, normalisation included", async () => {
    const { accuracy, loss, perClass } = await foveaJson(["eval", path("run"), "--data", path("data")]);
    expect(accuracy).toBe(1);
    expect(perClass).toEqual(["lying", "upright"].map((label) => ({ label, images: 4, recall: 1, precision: 1 })));
    const files = ["lying", "upright"].flatMap((name) =>
      [0, 1, 2, 3].map((phase) => path("data", name, `${phase}.png`)),
    );
    const predictions = await foveaJson(["predict", path("run"), ...files, "--top", "1", "--batch", "3"]);
    const losses = (Object.values(predictions) as { classes: { probability: number }[] }[]).map(({ classes }) => {
      expect(classes).toHaveLength(1);
      return -Math.log(classes[0]?.probability ?? 0);
    });
    expect(losses.reduce((sum, each) => sum + each, 0) / 8).toBeCloseTo(Number(loss), 5);
  });

  test("prints the file and its classes for people", async () => {
    const { stdout, exitCode } = await fovea(["predict", path("run"), lying]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/2\.png\n {2}lying {4,}\d+\.\d %\n {2}upright {2,}\d+\.\d %\n$/);
  });

  test("names a file that is no picture", async () => {
    writeFileSync(path("note.txt"), "no picture");
    const { stderr, exitCode } = await fovea(["predict", path("run"), lying, path("note.txt")]);
    expect([exitCode, stderr]).toEqual([1, expect.stringMatching(/^error: .*note\.txt.*\n$/)]);
  });
});
