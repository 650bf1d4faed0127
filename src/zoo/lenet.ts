import { firstLists, type Lists } from "../model/shape.js";
import type { ShapeKeeping } from "../model/symbolic.js";
import { sgd } from "../training/optimizers.js";
import { recipes } from "../training/recipes.js";
import { inverse } from "../training/schedules.js";
import { type AnyMap, define } from "./architecture.js";

const features = [
  // filters and padding of the 5x5 convolution
  [6, "same"],
  [16, "valid"],
] as const;
const classifier = [120, 84] as const; // units

/** [h, w, c] -> [h / 2, w / 2, filters], or with padding `"valid"` -> [(h - 4) / 2, (w - 4) / 2, filters] */
function block(x: AnyMap, [filters, padding]: (typeof features)[number]): AnyMap {
  return x.conv(filters, 5, { padding }).relu().maxPool(2);
}

/**
 * LeNet-5 as it is taught today: with ReLU, max-pooling and plain dense layers.
 *
 * @param options `input` ([28, 28, 1]; sides from 12), `classes` (10), and those of `model`: `seed`, `threads` ...
 * @returns [28, 28, 1] -> [10]; layers conv1, conv2, fc1, fc2, fc3; 61,706 parameters, 416,520 mult-adds
 * @throws FoveaError `INVALID_SHAPE` naming the layer that no longer fits when the input is too small
 * @see LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", Figure 2
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.lenet5().outputShape); // [ 10 ]
 * console.log(zoo.lenet5({ input: [32, 32, 3], classes: 100 }).outputShape); // [ 100 ]
 * ```
 */
export const lenet5 = define(
  {
    name: "lenet5",
    year: 1998,
    paper: "LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
    input: [28, 28, 1],
    classes: 10,
    recipe: recipes["lenet5-long"].optimizer,
  },
  (x, classes) => {
    const [fc1, fc2] = classifier;
    const flat = features.reduce(block, x).flatten();
    return flat.dense(fc1, { name: "fc1" }).relu().dense(fc2, { name: "fc2" }).relu().dense(classes, { name: "fc3" });
  },
);

/** Table I: the maps of S2 that each map of C3 sees. */
const connections = [
  [0, 1, 2],
  [1, 2, 3],
  [2, 3, 4],
  [3, 4, 5],
  [0, 4, 5],
  [0, 1, 5],
  [0, 1, 2, 3],
  [1, 2, 3, 4],
  [2, 3, 4, 5],
  [0, 3, 4, 5],
  [0, 1, 4, 5],
  [0, 1, 2, 5],
  [0, 1, 3, 4],
  [1, 2, 4, 5],
  [0, 2, 3, 5],
  [0, 1, 2, 3, 4, 5],
] as const;

/** The digits as stylised images of 7 x 12 pixels, in the manner of Figure 3. */
const bitmaps = [
  "....... ....... ....... ....... ....... ....... ....... ....... ....... .......",
  "..###.. ...#... ..###.. .#####. .....#. ####### ..####. ####### ..###.. ..###..",
  ".#...#. ..##... .#...#. .....#. ....##. #...... .#....# ......# .#...#. .#...#.",
  "#.....# .#.#... #.....# ....#.. ...#.#. #...... #...... ......# #.....# #.....#",
  "#.....# ...#... ......# ...#... ..#..#. #...... #...... .....#. #.....# #.....#",
  "#.....# ...#... .....#. ..####. .#...#. #####.. #.###.. .....#. .#...#. #.....#",
  "#.....# ...#... ....#.. ......# #....#. .....#. ##...#. ....#.. ..###.. .#...##",
  "#.....# ...#... ...#... ......# ####### ......# #.....# ....#.. .#...#. ..###.#",
  "#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#",
  ".#...#. ...#... .#..... #....#. .....#. #....#. .#...#. ...#... .#...#. .#....#",
  "..###.. .#####. ####### .####.. .....#. .####.. ..###.. ..#.... ..###.. ..####.",
  "....... ....... ....... ....... ....... ....... ....... ....... ....... .......",
] as const;
const codeLength = 7 * 12;

/**
 * A code of 1 (black) and -1 for each class: the digit's image, and from the eleventh class on numbers without order, with
 * which the paper says that one could do as well.
 */
function codes<Classes extends number>(classes: Classes): Lists<Classes> {
  const rows = bitmaps.map((row) => row.split(" "));
  const digits = Array.from({ length: 10 }, (_, digit) => {
    return rows.flatMap((row) => [...(row[digit] ?? "")].map((pixel) => (pixel === "#" ? 1 : -1)));
  });
  const others = Array.from({ length: Math.max(0, classes - digits.length) }, (_, code) =>
    Array.from({ length: codeLength }, (_, at) => coin(code * codeLength + at)),
  );
  return firstLists([...digits, ...others], classes);
}

/** 1 or -1 for each number, as if thrown: the finalizer of MurmurHash3 (Appleby 2011). */
function coin(number: number): number {
  const first = Math.imul(number ^ (number >>> 16), 0x85ebca6b);
  const second = Math.imul(first ^ (first >>> 13), 0xc2b2ae35);
  return (second ^ (second >>> 16)) & 1 ? 1 : -1;
}

/** 1.7159 tanh(2 x / 3), which is 1 at 1 and -1 at -1. */
function squash<X extends ShapeKeeping<readonly number[]>>(x: X): X {
  return x
    .affine(2 / 3)
    .tanh()
    .affine(1.7159);
}

/** [h, w, c] -> [h / 2, w / 2, c]; the sum of four, which the paper takes, is their mean with a coefficient four times as large. */
function subsample(x: AnyMap, name: string): AnyMap {
  return squash(x.avgPool(2).scale({ name }));
}

/** At least 32 x 32 pixels, with zeros around smaller images, as MNIST's are framed in the paper. */
function framed(x: AnyMap): AnyMap {
  const [height, width] = x.shape;
  const [rows, columns] = [Math.max(0, 32 - height), Math.max(0, 32 - width)];
  if (rows === 0 && columns === 0) return x;
  const [top, left] = [Math.floor(rows / 2), Math.floor(columns / 2)];
  return x.pad([top, columns - left, rows - top, left], { name: "frame" });
}

/**
 * LeNet-5 as printed: 1.7159 tanh(2 x / 3), subsampling with a learnt coefficient and bias a map, the third layer's
 * incomplete connections, and an output that measures the distance from a fixed code for each class, trained by the maximum
 * a posteriori criterion with 0.1 for rubbish.
 *
 * @param options `input` ([32, 32, 1]; smaller images get a frame of zeros), `classes` (10), and those of `model`: `seed`,
 * `threads` ...
 * @returns [32, 32, 1] -> [10]; layers c1, s2, c3, s4, c5, f6, output; 60,000 parameters: 156, 12, 1,516, 32, 48,120, 10,164
 * @see LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", section II.B
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.lenet51998().outputShape); // [ 10 ]
 * console.log(zoo.lenet51998({ input: [28, 28, 1] }).inputShape); // [ 28, 28, 1 ]
 * ```
 */
export const lenet51998 = define(
  {
    name: "lenet5-1998",
    year: 1998,
    paper: "LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
    input: [32, 32, 1],
    classes: 10,
    recipe: sgd({ learningRate: inverse(0.004, { decay: 0.001 }) }),
  },
  (x, classes) => {
    const init = "lecun";
    const s2 = subsample(squash(framed(x).conv(6, 5, { init, name: "c1" })), "s2");
    const s4 = subsample(squash(s2.conv(16, 5, { init, connections, name: "c3" })), "s4");
    const c5 = squash(s4.conv(120, 5, { init, name: "c5" }));
    const f6 = squash(c5.flatten().dense(codeLength, { init, name: "f6" }));
    const output = f6.radialBasis(codes(classes), { name: "output" });
    return { output, loss: { kind: "maximumAPosteriori", rejection: 0.1 } };
  },
);
