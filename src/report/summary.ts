import { ancestors, describe, type GraphDefinition, type LayerDescription } from "../model/definition.js";
import { volume } from "../model/operations.js";
import { type Advice, advise } from "./advice.js";
import { plainTable } from "./table.js";

const bytesPerValue = 4;

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
  /** Memory of the values that it writes for one image, float32; 0 for flattening, which only renames them. */
  readonly activationBytes: number;
  /** Whether it belongs to an auxiliary head, which only training has. */
  readonly auxiliary: boolean;
}

/** What layers cost together. */
export interface Counts {
  readonly parameters: number;
  readonly multAdds: number;
  readonly activationBytes: number;
}

/** What there is to know of a network before it is run. */
export interface Summary {
  readonly name: string;
  readonly input: readonly number[];
  /** Channels of the output. */
  readonly classes: number;
  /** Weights and biases, those of auxiliary heads included. */
  readonly parameters: number;
  /** Parameters that training changes; all of them, as long as no layer is frozen. */
  readonly trainableParameters: number;
  /** Of convolutions and dense layers, for one image, those of auxiliary heads included. */
  readonly multAdds: number;
  /** Memory of the input's and each layer's values for one image, as training keeps them at most; float32. */
  readonly activationBytes: number;
  /** What of the totals above belongs to auxiliary heads, which only training has. */
  readonly auxiliary: Counts;
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
  const descriptions = describe(definition);
  const outputs = definition.outputs.map(({ node }) => node);
  const predicting = ancestors(definition.nodes, outputs.slice(0, 1));
  const layers = descriptions.map((layer) => summarizeLayer(layer, !predicting.has(layer.node.name)));
  const { parameters, multAdds, activationBytes } = total(layers);
  return {
    name: definition.name,
    input: definition.input,
    classes: layers.find(({ name }) => name === outputs[0])?.output.at(-1) ?? 0,
    parameters,
    trainableParameters: parameters,
    multAdds,
    activationBytes: bytesPerValue * volume(definition.input) + activationBytes,
    auxiliary: total(layers.filter(({ auxiliary }) => auxiliary)),
    layers,
    advice: advise(definition, descriptions),
  };
}

function summarizeLayer(layer: LayerDescription, auxiliary: boolean): LayerSummary {
  const { node, input, output, parameters, multAdds } = layer;
  const activationBytes = node.op === "flatten" ? 0 : bytesPerValue * volume(output);
  return { name: node.name, type: node.op, input, output, parameters, multAdds, activationBytes, auxiliary };
}

function total(layers: readonly LayerSummary[]): Counts {
  const sum = (count: keyof Counts) => layers.reduce((total, layer) => total + layer[count], 0);
  return { parameters: sum("parameters"), multAdds: sum("multAdds"), activationBytes: sum("activationBytes") };
}

/** A summary as text for a terminal: a table, totals, advice. */
export function formatSummary(summary: Summary): string {
  const { name, input, classes, layers, advice } = summary;
  const columns = [
    { title: "layer", align: "left" },
    { title: "type", align: "left" },
    { title: "output" },
    { title: "parameters" },
    { title: "mult-adds" },
    { title: "activations (kB)" },
  ] as const;
  const rows = layers.map((layer) => [
    layer.name,
    layer.type,
    sizes(layer.output),
    whole(layer.parameters),
    whole(layer.multAdds),
    kilobytes(layer.activationBytes),
  ]);
  return [
    `${name}: ${sizes(input)} in, ${whole(classes)} classes out`,
    "",
    plainTable(columns, rows),
    "",
    ...totals(summary),
    ...(advice.length === 0 ? [] : ["", "Sizing advice:", ...advice.map(({ message }) => `  ${message}`)]),
  ].join("\n");
}

function totals({ parameters, trainableParameters, multAdds, activationBytes, auxiliary }: Summary): string[] {
  const heads =
    `of these, ${whole(auxiliary.parameters)} parameters, ${whole(auxiliary.multAdds)} mult-adds and ` +
    `${megabytes(auxiliary.activationBytes)} belong to auxiliary heads, which only training has; without them ` +
    `${whole(parameters - auxiliary.parameters)} parameters, ${whole(multAdds - auxiliary.multAdds)} mult-adds`;
  return [
    `${whole(parameters)} parameters (${megabytes(bytesPerValue * parameters)}), ${whole(trainableParameters)} of them trainable`,
    `${whole(multAdds)} mult-adds an image`,
    `${megabytes(activationBytes)} of activations an image in training`,
    ...(auxiliary.activationBytes === 0 ? [] : [heads]),
  ];
}

function sizes(shape: readonly number[]): string {
  return shape.join(" x ");
}

function whole(count: number): string {
  return count.toLocaleString("en-US");
}

function kilobytes(bytes: number): string {
  return (bytes / 1e3).toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toLocaleString("en-US", { maximumFractionDigits: 2 })} MB`;
}
