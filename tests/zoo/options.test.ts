import { describe, expect, test } from "vitest";
import { input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import * as zoo from "../../src/zoo/index.js";

const functions = Object.entries(zoo).flatMap(([name, network]) =>
  typeof network === "function" && "architecture" in network ? [[name, network] as const] : [],
);

const networks = [
  ...zoo.architectures.map(({ name, create }) => [name, create] as const),
  ...functions,
  ["mobilenet", zoo.mobilenet] as const,
  ["own", (options?: object) => model(input(8, 8, 1), (x) => x.conv(4, 3, { name: "first" }), options)] as const,
];

describe.each(networks)("%s", (_, create) => {
  /** What a model of these options says when it is first used. */
  const refusal = (options: object): unknown => {
    const made = create(options);
    try {
      return made.session;
    } catch (error) {
      return error;
    }
  };

  test("has the name that it is given, and its own where that is undefined", () => {
    expect(create({ name: "mine" }).definition.name).toBe("mine");
    expect(create({ name: undefined }).definition.name).toBe(create().definition.name);
  });

  test.each<[object, string]>([
    [{ seed: -1 }, 'Expected a whole number of at least 0 for "seed" but received -1.'],
    [{ threads: 0 }, 'Expected a positive whole number for "threads" but received 0.'],
    [{ threads: 5000 }, 'Expected 1 to 1024 for "threads" but received 5000.'],
    [{ precision: "exact" }, 'Expected "fast" or "strict" for "precision" but received "exact".'],
    [{ algorithms: { nowhere: "direct" } }, 'for "algorithms" but received "nowhere".'],
    [{ algorithms: { "nowhere.forward": "direct" } }, 'for "algorithms" but received "nowhere.forward".'],
  ])("uses, and so refuses, %j", (options, sentence) => {
    expect(refusal(options)).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining(sentence) });
  });

  test("knows layers, their passes and algorithms", () => {
    const [first] = create().definition.nodes.filter(({ op }) => op === "conv");
    const name = first?.name ?? "";
    expect(refusal({ algorithms: { [`${name}.backward`]: "direct" } })).toMatchObject({
      message: expect.stringContaining(`for "algorithms" but received "${name}.backward".`),
    });
    expect(refusal({ algorithms: { [name]: "fastest" } })).toMatchObject({
      message: `Expected direct, scatter, packed or winograd for "${name}" but received fastest.`,
    });
    expect(refusal({ precision: "strict", algorithms: { [name]: "winograd" } })).toMatchObject({
      message: `Expected direct summation, which strict precision demands, for "${name}" but received winograd.`,
    });
  });
});

test("the algorithms that a network of the zoo is held to are those of its plan", async () => {
  const held = zoo.resnet20({ threads: 1, algorithms: { conv1: "direct", "layer1.0.conv1.forward": "winograd" } });
  const plan: { rows: { name: string; algorithm: string; held: boolean }[] } = JSON.parse(
    await held.session.explain("infer", 1, false),
  );
  const of = (name: string) => plan.rows.find((row) => row.name === name);
  expect(of("conv1")).toMatchObject({ held: true });
  expect(of("layer1.0.conv1")).toMatchObject({ algorithm: expect.stringMatching(/Winograd.*as asked/), held: true });
  expect(of("layer1.0.conv2")).toMatchObject({ held: false });
  await held.close();
});
