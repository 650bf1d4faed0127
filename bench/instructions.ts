/**
 * Steps whose instructions are counted: small networks that between them reach every kernel that training is slow by.
 * Sizes are such that an emulated step takes a second or two.
 */

import type { GraphDefinition } from "../src/model/definition.js";
import { input } from "../src/model/feature-map.js";
import { model } from "../src/model/model.js";
import { lenet5 } from "../src/zoo/lenet.js";

export interface Step {
  readonly definition: GraphDefinition;
  readonly mode: "train" | "infer";
  readonly batch: number;
  readonly precision: "fast" | "strict";
}

const wide = model(input(14, 14, 64), (x) =>
  x.conv(64, 3, { padding: 1 }).relu().conv(64, 3, { padding: 1 }).relu().flatten().dense(2),
).definition;

const pointwise = model(input(14, 14, 64), (x) =>
  x.conv(128, 1).relu().conv(64, 1).relu().flatten().dense(2),
).definition;

const depthwise = model(input(28, 28, 32), (x) =>
  x
    .conv(32, 3, { padding: 1, groups: 32 })
    .relu()
    .conv(32, 3, { padding: 1, groups: 32, stride: 2 })
    .relu()
    .flatten()
    .dense(2),
).definition;

const first = model(input(56, 56, 3), (x) =>
  x.conv(32, 7, { padding: 3, stride: 2 }).relu().maxPool(3, { stride: 2, padding: 1 }).flatten().dense(2),
).definition;

const residual = model(input(14, 14, 32), (x) => {
  const block = x.conv(32, 3, { padding: 1, bias: false }).batchNorm().relu();
  return block
    .conv(32, 3, { padding: 1, bias: false })
    .batchNorm()
    .add(block)
    .relu()
    .globalAvgPool()
    .flatten()
    .dense(2);
}).definition;

const normalized = model(input(27, 27, 3), (x) =>
  x.conv(32, 1).relu().localResponseNorm(5).maxPool(3, { stride: 2 }).dropout(0.5).globalAvgPool().flatten().dense(2),
).definition;

const lenet = lenet5().definition;

/** By the names that instructions.json has. */
export const steps: Readonly<Record<string, Step>> = {
  "LeNet-5, training": { definition: lenet, mode: "train", batch: 16, precision: "fast" },
  "LeNet-5, one image": { definition: lenet, mode: "infer", batch: 1, precision: "fast" },
  "3x3 convolutions by Winograd, training": { definition: wide, mode: "train", batch: 8, precision: "fast" },
  "3x3 convolutions directly, training": { definition: wide, mode: "train", batch: 2, precision: "strict" },
  "1x1 convolutions, training": { definition: pointwise, mode: "train", batch: 2, precision: "fast" },
  "depthwise convolutions, training": { definition: depthwise, mode: "train", batch: 2, precision: "fast" },
  "batch normalization and shortcut, training": { definition: residual, mode: "train", batch: 2, precision: "fast" },
  "local response normalization, dropout, training": {
    definition: normalized,
    mode: "train",
    batch: 2,
    precision: "fast",
  },
  "first convolution and pooling, training": { definition: first, mode: "train", batch: 2, precision: "fast" },
};
