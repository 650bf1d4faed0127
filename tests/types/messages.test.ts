import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { compile, errorsByLine } from "./compiler.js";

const output = await compile("tests/types/fixtures", "--extendedDiagnostics");
const wrong = await readFile(new URL("fixtures/wrong.ts", import.meta.url), "utf8");
const errors = errorsByLine(output, "fixtures/wrong.ts");
const lines = wrong.split("\n");
const expected = lines.flatMap((line, index) => {
  const text = /^\/\/ error: (.*)$/.exec(line)?.[1];
  return text === undefined ? [] : [{ line: index + 2, source: lines[index + 1] ?? "", text }];
});

test.each(expected)("the compiler refuses `$source` and says: $text", ({ line, text }) => {
  expect(errors.get(line)).toContain(text);
});

test("the compiler refuses nothing else", () => {
  expect([...errors.keys()]).toEqual(expected.map(({ line }) => line));
  expect([...errorsByLine(output, "fixtures/deep.ts").values()]).toEqual([]);
});

test("checking networks as deep as ResNet-152 and as wide as GoogLeNet stays cheap", () => {
  const instantiations = Number(/Instantiations:\s+(\d+)/.exec(output)?.[1]);
  expect(instantiations).toBeGreaterThan(0);
  expect(instantiations).toBeLessThan(1_000_000);
});
