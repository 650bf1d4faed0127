import { invalidArgument } from "../errors.js";
import { invalidGraph, positive } from "./checks.js";
import { ancestors, type GraphDefinition, type LossDefinition, type NodeDefinition } from "./definition.js";
import { describeNode } from "./operations.js";
import type { MapShape, Shape } from "./shape.js";

/** A place in a graph under construction: what a symbolic feature map stands for. */
export interface Place {
  readonly graph: GraphBuilder;
  readonly name: string;
  readonly shape: Shape;
}

type WithoutName<Node> = Node extends unknown ? Omit<Node, "name" | "inputs"> : never;

/** A layer before it is placed: the operation and its options. */
export type Operation = WithoutName<NodeDefinition>;

/** Collects the layers of one network in the order in which they are written, names them and checks their shapes. */
export class GraphBuilder {
  readonly #nodes: NodeDefinition[] = [];
  readonly #names = new Set(["input"]);
  readonly input: Place & { readonly shape: MapShape };

  constructor(shape: MapShape) {
    for (const size of shape) positive("input", size);
    this.input = { graph: this, name: "input", shape };
  }

  /**
   * Adds a layer that reads `inputs`.
   *
   * @param name default: as {@link nameFor} says
   * @throws FoveaError where the layer does not fit its inputs, these are of different networks, or the name is taken
   */
  add(operation: Operation, inputs: readonly Place[], name?: string): Place {
    if (inputs.some(({ graph }) => graph !== this)) {
      throw invalidGraph(`layers of one network for "${this.nameFor(operation.op, name)}"`, "layers of two inputs");
    }
    const node: NodeDefinition = {
      name: this.nameFor(operation.op, name),
      inputs: inputs.map((each) => each.name),
      ...operation,
    };
    const { output } = describeNode(
      node,
      inputs.map((each) => each.shape),
    );
    this.#nodes.push(node);
    this.#names.add(node.name);
    return { graph: this, name: node.name, shape: output };
  }

  /** The finished network, its prediction first; layers that no output needs are left out. */
  finish(
    name: string,
    outputs: readonly { readonly at: Place; readonly lossWeight: number; readonly loss: LossDefinition }[],
  ): GraphDefinition {
    const needed = ancestors(
      this.#nodes,
      outputs.map(({ at }) => at.name),
    );
    return {
      name,
      input: this.input.shape,
      nodes: this.#nodes.filter((node) => needed.has(node.name)),
      outputs: outputs.map(({ at, lossWeight, loss }) => ({ node: at.name, lossWeight, loss })),
    };
  }

  /**
   * What the next layer of an operation will be called.
   *
   * @param name default: the operation and a number, the first free one from how many of its kind there are (`conv1`)
   * @throws FoveaError `INVALID_ARGUMENT` when the name is taken or reserved
   */
  nameFor(op: string, name?: string): string {
    if (name !== undefined) {
      if (name === "" || name.startsWith("optimizer.") || this.#names.has(name))
        throw invalidArgument("name", "a name that no other layer has", `"${name}"`);
      return name;
    }
    // The first of relu6 is no relu61.
    const stem = /\d$/.test(op) ? `${op}-` : op;
    let number = this.#nodes.filter((node) => node.op === op).length + 1;
    while (this.#names.has(`${stem}${number}`)) number += 1;
    return `${stem}${number}`;
  }
}
