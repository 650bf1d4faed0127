/**
 * What each layer makes of its inputs, as the engine says. One thing it does not know: for the vector [n] it
 * has the shape of the feature map [1, 1, n]. Which of the two a layer reads and gives is said here.
 */

import { invalidArgument } from "../errors.js";
import * as engine from "../native.js";
import { isRecord } from "../training/json.js";
import { invalidShape, text } from "./checks.js";
import type { GraphDefinition, LayerDescription, NodeDefinition, NodeDescription } from "./definition.js";
import type { Shape } from "./shape.js";

/** Operations that read feature maps alone; all but flatten give them. */
const ofMaps: readonly string[] = [
  "conv",
  "convTranspose",
  "maxPool",
  "avgPool",
  "globalAvgPool",
  "globalMaxPool",
  "adaptiveAvgPool",
  "upsample",
  "pad",
  "flatten",
  "localResponseNorm",
] satisfies NodeDefinition["op"][];

/** Operations that read vectors alone, and give them. */
const ofVectors: readonly string[] = ["dense", "radialBasis"] satisfies NodeDefinition["op"][];

/**
 * The shape that a layer gives for the shapes that it reads, and its counts.
 *
 * @throws FoveaError `INVALID_SHAPE` when it does not fit them, `INVALID_ARGUMENT` for an option out of range
 */
export function describeNode(node: NodeDefinition, inputs: readonly Shape[]): NodeDescription {
  checkKinds(node, inputs);
  return ofKind(node, inputs, engine.describeNode(toJson(node), inputs.flatMap(asMap)));
}

/**
 * Shapes and counts of every layer of a network.
 *
 * @throws FoveaError as {@link describeNode}, and `INVALID_GRAPH` when the layers make no network
 */
export function describeNodes(definition: GraphDefinition): readonly LayerDescription[] {
  const described = engine.describeGraph(toJson(definition));
  // The engine has proven that every name leads to the input or to a layer before.
  const shapes = new Map<string, Shape>();
  const shapeOf = (name: string): Shape => shapes.get(name) ?? definition.input;
  return definition.nodes.flatMap((node, index) => {
    const description = described[index];
    if (description === undefined) return [];
    const inputs = node.inputs.map(shapeOf);
    checkKinds(node, inputs);
    const layer = { node, input: inputs[0] ?? definition.input, ...ofKind(node, inputs, description) };
    shapes.set(node.name, layer.output);
    return [layer];
  });
}

/** The number of values in a shape. */
export function volume(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** @throws FoveaError where vectors and feature maps are mistaken for each other; the engine counts inputs. */
function checkKinds({ name, op }: NodeDefinition, [first, ...others]: readonly Shape[]): void {
  if (first === undefined) return;
  if (ofMaps.includes(op) && !isMap(first)) throw invalidShape(`a feature map for "${name}"`, "a vector", first);
  if (ofVectors.includes(op) && isMap(first)) {
    throw invalidShape(`a vector for "${name}"`, "a feature map, which flatten makes one", first);
  }
  const isFactor = op === "multiply" && isMap(first);
  const unlike = others.find((other) => isMap(other) !== isMap(first));
  if (unlike === undefined || isFactor) return;
  throw invalidShape(`vectors alone or feature maps alone for "${name}"`, `${text(first)} and ${text(unlike)}`);
}

function ofKind({ op }: NodeDefinition, [first]: readonly Shape[], { output, ...counts }: engine.NodeDescription) {
  const [height = 1, width = 1, channels = 1] = output;
  const isVector = op === "flatten" || !(ofMaps.includes(op) || (first && isMap(first)));
  return { output: isVector ? ([channels] as const) : ([height, width, channels] as const), ...counts };
}

function isMap(shape: Shape): boolean {
  return shape.length === 3;
}

function asMap(shape: Shape): readonly number[] {
  return shape.length === 1 ? [1, 1, ...shape] : shape;
}

/** JSON has no NaN and no infinities: they are refused by the names of the layer and the option. */
function toJson(definition: object): string {
  const at = { layer: "", option: "" };
  return JSON.stringify(definition, (key, value: unknown) => {
    if (Number.isNaN(Number(key))) at.option = key;
    if (isRecord(value)) at.layer = String(value["name"] ?? value["node"] ?? at.layer);
    if (typeof value !== "number" || Number.isFinite(value)) return value;
    throw invalidArgument(`${at.layer}.${at.option}`, "finite numbers", value);
  });
}
