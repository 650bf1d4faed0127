import { describe, type GraphDefinition, type LayerDescription, volume } from "../model/definition.js";
import { type Advice, advise } from "./advice.js";
import { plainTable } from "./table.js";

/** One layer of a {@link Summary}; shapes are `[height, width, channels]`, or `[size]` for a vector. */
export interface LayerSummary {
  readonly name: string;
  /** The operation: `"conv"`, `"maxPool"`, `"dense"` ... */
  readonly type: string;
  readonly input: readonly number[];
  readonly output: readonly number[];
  /** Weights and biases. */
  readonly parameters: number;
  /** Multiplications with their additions, for one image. */
  readonly multAdds: number;
}

/** What there is to know of a network before it is run. */
export interface Summary {
  readonly name: string;
  readonly input: readonly number[];
  /** Channels of the output. */
  readonly classes: number;
  readonly parameters: number;
  /** Parameters that training changes; all of them, as long as no layer is frozen. */
  readonly trainableParameters: number;
  /** Of convolutions and dense layers, for one image. */
  readonly multAdds: number;
  /** Memory of the input's and each layer's values for one image, as training keeps them at most; float32. */
  readonly activationBytes: number;
  readonly layers: readonly LayerSummary[];
  readonly advice: readonly Advice[];
}

/**
 * Counts a network's layers and advises on its sizes.
 *
 * @param definition `model(...).definition`
 * @returns numbers for one image; plain JSON
 * @throws FoveaError when the definition makes no network, as `describe` says
 * @example
 * ```ts
 * import { summarize, zoo } from "fovea";
 *
 * const { parameters, multAdds, advice } = summarize(zoo.lenet5().definition);
 * console.log(parameters, multAdds); // 61706 416520
 * console.log(advice.map((each) => `${each.layer}: ${each.rule}`)); // [ 'conv2: convolution-keeps-size' ]
 * ```
 */
export function summarize(definition: GraphDefinition): Summary {
  const layers = describe(definition);
  const parameters = sum(layers, (layer) => layer.parameters);
  const [output] = definition.outputs;
  return {
    name: definition.name,
    input: definition.input,
    classes: layers.find(({ node }) => node.name === output?.node)?.output.at(-1) ?? 0,
    parameters,
    trainableParameters: parameters,
    multAdds: sum(layers, (layer) => layer.multAdds),
    activationBytes: 4 * (volume(definition.input) + sum(layers, storedValues)),
    layers: layers.map(({ node, input, output, parameters, multAdds }) => ({
      name: node.name,
      type: node.op,
      input,
      output,
      parameters,
      multAdds,
    })),
    advice: advise(definition, layers),
  };
}

/** Flattening only renames what its input holds already. */
function storedValues({ node, output }: LayerDescription): number {
  return node.op === "flatten" ? 0 : volume(output);
}

/** A summary as text for a terminal: a table, totals, advice. */
export function formatSummary(summary: Summary): string {
  const { name, input, classes, parameters, trainableParameters, multAdds, activationBytes, layers, advice } = summary;
  const columns = [
    { title: "layer", align: "left" },
    { title: "type", align: "left" },
    { title: "output" },
    { title: "parameters" },
    { title: "mult-adds" },
  ] as const;
  const rows = layers.map((layer) => [
    layer.name,
    layer.type,
    sizes(layer.output),
    whole(layer.parameters),
    whole(layer.multAdds),
  ]);
  return [
    `${name}: ${sizes(input)} in, ${whole(classes)} classes out`,
    "",
    plainTable(columns, rows),
    "",
    `${whole(parameters)} parameters (${megabytes(4 * parameters)}), ${whole(trainableParameters)} of them trainable`,
    `${whole(multAdds)} mult-adds an image`,
    `${megabytes(activationBytes)} of activations an image in training`,
    ...(advice.length === 0 ? [] : ["", "Sizing advice:", ...advice.map(({ message }) => `  ${message}`)]),
  ].join("\n");
}

function sum<Item>(items: readonly Item[], value: (item: Item) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function sizes(shape: readonly number[]): string {
  return shape.join(" x ");
}

function whole(count: number): string {
  return count.toLocaleString("en-US");
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toLocaleString("en-US", { maximumFractionDigits: 2 })} MB`;
}
