/** Runs the examples of the docstrings: each compiles, and prints what the comments behind its `console.log` say. */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { inspect } from "node:util";
import { afterAll, expect, test, vi } from "vitest";
import { compile } from "../types/compiler.js";

interface Example {
  readonly name: string;
  readonly code: string;
}

const root = new URL("../../", import.meta.url);
const directory = new URL("build/examples/", root);
const examples = (await Promise.all((await sources()).map(readExamples))).flat();

await mkdir(directory, { recursive: true });
afterAll(() => rm(directory, { recursive: true }));
await Promise.all(examples.map(({ name, code }) => writeFile(new URL(`${name}.ts`, directory), code)));
await writeFile(
  new URL("tsconfig.json", directory),
  JSON.stringify({
    extends: "../../tsconfig.json",
    compilerOptions: { paths: { fovea: ["../../src/index.ts"] } },
    include: ["."],
    exclude: [],
  }),
);

test("the examples of the docstrings compile", async () => {
  expect(examples.length).toBeGreaterThan(10);
  expect(await compile("build/examples")).toBe("");
});

test.each(examples)("the example $name prints what it says", async ({ name, code }) => {
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...values: unknown[]) => {
    printed.push(values.map((value) => (typeof value === "string" ? value : inspect(value))).join(" "));
  });
  await import(new URL(`${name}.ts`, directory).href);
  log.mockRestore();
  const promised = [...code.matchAll(/console\.log\(.*\);(?:\s*\/\/ (.*))?/g)].map(([, text]) => text);
  expect(promised.length).toBeGreaterThan(0);
  expect(printed).toEqual(promised);
});

async function sources(): Promise<string[]> {
  const files = await readdir(new URL("src/", root), { recursive: true });
  return files.filter((file) => file.endsWith(".ts"));
}

/** The `ts` blocks of a file's docstrings that import from fovea. */
async function readExamples(file: string): Promise<Example[]> {
  const text = await readFile(new URL(`src/${file}`, root), "utf8");
  const blocks = [...text.matchAll(/^ *\* ```ts\n(.*?)^ *\* ```$/gms)].map(([, block]) =>
    (block ?? "").replaceAll(/^ *\* ?/gm, ""),
  );
  const name = file.replaceAll(/[/\\]/g, "-").replace(".ts", "");
  return blocks.flatMap((code, index) =>
    code.includes('from "fovea"') ? [{ name: `${name}-${index + 1}`, code }] : [],
  );
}
