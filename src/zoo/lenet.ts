import { recipes } from "../training/recipes.js";
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
