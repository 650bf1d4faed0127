import type { Vector } from "../model/vector.js";
import { recipes } from "../training/recipes.js";
import { type AnyMap, define } from "./architecture.js";

/** A convolution with its ReLU, and what follows: local response normalisation, max-pooling 3x3 with stride 2. */
interface Stage {
  readonly filters: number;
  readonly kernel: number;
  readonly stride?: number;
  readonly padding: number;
  readonly groups?: number;
  readonly norm?: boolean;
  readonly pool?: boolean;
}

const paper: readonly Stage[] = [
  { filters: 96, kernel: 11, stride: 4, padding: 0, norm: true, pool: true },
  { filters: 256, kernel: 5, padding: 2, groups: 2, norm: true, pool: true },
  { filters: 384, kernel: 3, padding: 1 },
  { filters: 384, kernel: 3, padding: 1, groups: 2 },
  { filters: 256, kernel: 3, padding: 1, groups: 2, pool: true },
];
const oneTower: readonly Stage[] = [
  { filters: 64, kernel: 11, stride: 4, padding: 2, pool: true },
  { filters: 192, kernel: 5, padding: 2, pool: true },
  { filters: 384, kernel: 3, padding: 1 },
  { filters: 256, kernel: 3, padding: 1 },
  { filters: 256, kernel: 3, padding: 1, pool: true },
];

/** The paper's alpha multiplies the sum over the five channels, and not their mean. */
const normalisation = { size: 5, alpha: 5 * 1e-4, beta: 0.75, k: 2 } as const;

/** The convolutional part; layers are numbered through, as a PyTorch `Sequential` numbers them: `features.0` ... */
function features(x: AnyMap, stages: readonly Stage[]): AnyMap {
  let count = 0;
  const next = () => ({ name: `features.${count++}` });
  return stages.reduce((x, { filters, kernel, stride = 1, padding, groups = 1, norm, pool }) => {
    const y = x.conv(filters, kernel, { stride, padding, groups, ...next() }).relu(next());
    const z = norm ? y.localResponseNorm(normalisation.size, { ...normalisation, ...next() }) : y;
    return pool ? z.maxPool(3, { stride: 2, ...next() }) : z;
  }, x);
}

/** [n] -> [classes], dropout before the first and second of three dense layers */
function classifier<Classes extends number>(x: Vector<number>, first: number, classes: Classes): Vector<Classes> {
  const name = (offset: number) => ({ name: `classifier.${first + offset}` });
  return x
    .dropout(0.5, name(-1))
    .dense(4096, name(0))
    .relu(name(1))
    .dropout(0.5, name(2))
    .dense(4096, name(3))
    .relu(name(4))
    .dense(classes, name(5));
}

/**
 * AlexNet as printed: two groups in convolutions 2, 4 and 5, local response normalisation, overlapping pooling, dropout.
 *
 * @param options `input` ([227, 227, 3]; sides from 67), `classes` (1000), and those of `model`: `seed`, `threads` ...
 * @returns [227, 227, 3] -> [1000]; convolutions features.0, .4, .8, .10, .12, dense layers classifier.1, .4, .6;
 * 60,965,224 parameters, 724,406,816 mult-adds
 * @throws FoveaError `INVALID_SHAPE` naming the layer that no longer fits when the input is too small
 * @see Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks"
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.alexnet().outputShape); // [ 1000 ]
 * ```
 */
export const alexnet = define(
  {
    name: "alexnet",
    year: 2012,
    paper: "Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks",
    input: [227, 227, 3],
    classes: 1000,
    recipe: recipes.alexnet.optimizer,
  },
  (x, classes) => classifier(features(x, paper).flatten({ name: "flatten" }), 1, classes),
);

/**
 * AlexNet with one tower, as torchvision has it: fewer filters, no groups, no normalisation; torchvision's weights fit.
 *
 * @param options `input` ([224, 224, 3]; sides from 63), `classes` (1000), and those of `model`: `seed`, `threads` ...
 * @returns [224, 224, 3] -> [1000]; convolutions features.0, .3, .6, .8, .10, dense layers classifier.1, .4, .6;
 * 61,100,840 parameters, 714,188,480 mult-adds
 * @throws FoveaError `INVALID_SHAPE` naming the layer that no longer fits
 * @see Krizhevsky 2014, "One Weird Trick for Parallelizing Convolutional Neural Networks", arXiv:1404.5997
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.alexnetTorchvision({ classes: 10 }).outputShape); // [ 10 ]
 * ```
 */
export const alexnetTorchvision = define(
  {
    name: "alexnet-torchvision",
    year: 2014,
    paper: "Krizhevsky 2014, One Weird Trick for Parallelizing Convolutional Neural Networks",
    input: [224, 224, 3],
    classes: 1000,
    recipe: recipes.alexnet.optimizer,
  },
  (x, classes) => {
    const pooled = features(x, oneTower).adaptiveAvgPool(6, { name: "avgpool" });
    return classifier(pooled.flatten({ name: "flatten" }), 1, classes);
  },
);
