/** Ten steps of training equal PyTorch's, from the same weights on the same batches (tests/golden/zoo.py). */
import { join } from "node:path";
import { expect, test } from "vitest";
import { ancestors, type GraphDefinition } from "../../src/model/definition.js";
import { Dataset, type Session } from "../../src/native.js";
import { fit as train } from "../../src/training/fit.js";
import { sgd } from "../../src/training/optimizers.js";
import { architecture } from "../../src/zoo/index.js";
import { temporaryDirectory } from "../support/directory.js";
import { readSafetensors } from "../support/files.js";
import { openGolden } from "../support/golden.js";
import { type NamedTensor, uniform } from "../support/recipe.js";
import { instructionSets, recipeSession } from "./support.js";

interface Case {
  readonly input: readonly [number, number, number];
  readonly classes: number;
  readonly batch: number;
  readonly steps: number;
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
  /** What is added to the shifts of batch normalisation. */
  readonly shift: number;
  /** What the weights of the last layers are multiplied by. */
  readonly scores: number;
  /** Whether auxiliary heads take part. */
  readonly heads: boolean;
}

const golden = openGolden<Case>("zoo_losses");
const directory = temporaryDirectory();

/** The network as it is compared: nothing is dropped, and there are no auxiliary heads unless they are asked for. */
function bare({ name, input, nodes, outputs }: GraphDefinition, { heads }: Case): GraphDefinition {
  const kept = heads ? outputs : outputs.slice(0, 1);
  const needed = ancestors(
    nodes,
    kept.map(({ node }) => node),
  );
  return {
    name,
    input,
    nodes: nodes
      .filter((node) => needed.has(node.name))
      .map((node) => (node.op === "dropout" ? { ...node, rate: 0 } : node)),
    outputs: kept,
  };
}

/** The weights that a case begins with. */
function changed({ nodes, outputs }: GraphDefinition, { shift, scores }: Case) {
  const shifts = new Set(nodes.filter(({ op }) => op === "batchNorm").map(({ name }) => `${name}.bias`));
  const last = new Set(outputs.map(({ node }) => `${node}.weight`));
  return (weights: NamedTensor[]): NamedTensor[] =>
    weights.map(({ name, shape, values }) => {
      const [factor, more] = [last.has(name) ? scores : 1, shifts.has(name) ? shift : 0];
      return { name, shape, values: values.map((value) => value * factor + more) };
    });
}

/** Trains as PyTorch did; gives the loss of each step. */
async function tenSteps(session: Session, { input, classes, batch, steps, ...options }: Case): Promise<number[]> {
  const images = uniform("images", steps * batch * input[0] * input[1] * input[2]);
  const labels = Uint32Array.from(uniform("labels", steps * batch), (value) => Math.floor(((value + 1) / 2) * classes));
  const data = Dataset.fromArrays(images, [steps * batch, ...input], labels, classes);
  const losses: number[] = [];
  await train(session, data, {
    steps,
    batchSize: batch,
    shuffle: false,
    optimizer: sgd(options),
    callbacks: { onSteps: (metrics) => void losses.push(...metrics.map(({ loss }) => loss)) },
  });
  return losses;
}

/** All tensors that a session holds, by name. */
async function tensorsOf(session: Session): Promise<Map<string, Float32Array>> {
  const path = join(directory, "trained.safetensors");
  await session.saveWeights(path);
  const { header, data } = readSafetensors(path);
  const float = Object.entries(header).filter(([, { dtype }]) => dtype === "F32");
  return new Map(
    float.map(([name, { data_offsets }]) => [
      name,
      new Float32Array(new Uint8Array(data.subarray(...data_offsets)).buffer),
    ]),
  );
}

/** What golden files hold of a tensor: its inner products with vectors of the recipe. */
function projections(values: Float32Array, count: number): number[] {
  const vectors = uniform("projections", count * values.length);
  return Array.from({ length: count }, (_, row) => {
    let sum = 0;
    for (let index = 0, at = row * values.length; index < values.length; index += 1, at += 1) {
      sum += (values[index] ?? Number.NaN) * (vectors[at] ?? Number.NaN);
    }
    return sum;
  });
}

/** Square root of the mean square. */
function size(values: readonly number[] | Float32Array): number {
  return Math.hypot(...values) / Math.sqrt(values.length);
}

/** The length that the projections of a vector tell, exactly. */
function projectedLength(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum / 3);
}

function minus(one: readonly number[], other: Float32Array): number[] {
  return one.map((value, index) => value - (other[index] ?? Number.NaN));
}

interface Difference {
  /** The largest of a step, over the expected loss. */
  readonly loss: number;
  /** The largest of a parameter or running statistic, over its length. */
  readonly tensor: number;
  /** Of what ten steps changed, over the change: the median over all tensors. */
  readonly update: number;
}

/** Something to be made wrong on purpose. */
interface Mistake {
  readonly options?: Partial<Case>;
  readonly norm?: { readonly momentum?: number; readonly epsilon?: number };
  readonly headWeight?: number;
}

/** How far ten steps lead from where PyTorch's led. */
async function difference(
  name: string,
  isa: string | undefined,
  precision: string,
  { options, norm, headWeight }: Mistake = {},
): Promise<Difference> {
  const recorded = golden.cases[name];
  if (recorded === undefined) throw new Error(`no golden losses of ${name}`);
  const right = bare(architecture(name).create(recorded).definition, recorded);
  const nodes = right.nodes.map((node) => (node.op === "batchNorm" ? { ...node, ...norm } : node));
  const outputs = right.outputs.map((output, index) =>
    index > 0 && headWeight !== undefined ? { ...output, lossWeight: headWeight } : output,
  );
  const definition = { ...right, nodes, outputs };
  const session = await recipeSession(
    definition,
    directory,
    { precision, ...(isa !== undefined && { isa }) },
    changed(definition, recorded),
  );
  const before = await tensorsOf(session);
  const losses = await tenSteps(session, { ...recorded, ...options });
  const after = await tensorsOf(session);
  await session.close();
  const expectedLosses = golden.values(`${name}.losses`);
  expect(losses.length).toBe(expectedLosses.length);
  expect([...after.keys()].toSorted()).toEqual(golden.names(`${name}.final.`).toSorted());
  const errors = [...after].map(([tensor, values]) => {
    const expected = golden.values(`${name}.final.${tensor}`);
    const error = size(minus(projections(values, expected.length), expected));
    const moved = size(minus(projections(before.get(tensor) ?? values, expected.length), expected));
    return { tensor: error / projectedLength(values), update: error / moved };
  });
  return {
    loss: Math.max(...losses.map((loss, step) => Math.abs(loss / (expectedLosses[step] ?? Number.NaN) - 1))),
    tensor: Math.max(...errors.map(({ tensor }) => tensor)),
    update: errors.map(({ update }) => update).toSorted((a, b) => a - b)[errors.length >> 1] ?? Number.NaN,
  };
}

/** Portable code trains the smallest in a moment. */
const runs = Object.keys(golden.cases).flatMap((name) =>
  instructionSets.filter((isa) => isa !== "scalar" || name === "resnet20").map((isa) => [name, isa] as const),
);

test.each(runs)("%s trains as in PyTorch, computed with %s", async (name, isa) => {
  const strict = await difference(name, isa, "strict");
  expect(strict.loss).toBeLessThan(1e-4);
  expect(strict.tensor).toBeLessThan(1e-4);
  expect(strict.update).toBeLessThan(2e-2);
  const fast = await difference(name, isa, "fast");
  expect(fast.loss).toBeLessThan(1e-3);
  expect(fast.tensor).toBeLessThan(1e-3);
  expect(fast.update).toBeLessThan(2e-1);
});

test.each<[string, string, Mistake]>([
  ["less momentum", "resnet20", { options: { momentum: 0.89 } }],
  ["no weight decay", "resnet20", { options: { weightDecay: 0 } }],
  ["a larger rate", "resnet20", { options: { learningRate: 0.0051 } }],
  ["running statistics that move faster", "resnet20", { norm: { momentum: 0.11 } }],
  ["another epsilon", "resnet20", { norm: { epsilon: 1e-3 } }],
  ["heads that weigh more", "googlenet", { headWeight: 0.4 }],
])("%s is told from what PyTorch did (%s)", async (_, name, mistake) => {
  expect((await difference(name, undefined, "strict", mistake)).tensor).toBeGreaterThan(1e-4);
});
