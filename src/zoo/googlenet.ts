import { concat } from "../model/concat.js";
import type { Outputs } from "../model/model.js";
import type { Vector } from "../model/vector.js";
import { recipes } from "../training/recipes.js";
import { type AnyMap, define } from "./architecture.js";

/** GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842), Table 1: the filters of each inception module. */
const modules = [
  // name, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
  ["inception3a", 64, 96, 128, 16, 32, 32],
  ["inception3b", 128, 128, 192, 32, 96, 64],
  ["inception4a", 192, 96, 208, 16, 48, 64],
  ["inception4b", 160, 112, 224, 24, 64, 64],
  ["inception4c", 128, 128, 256, 24, 64, 64],
  ["inception4d", 112, 144, 288, 32, 64, 64],
  ["inception4e", 256, 160, 320, 32, 128, 128],
  ["inception5a", 256, 160, 320, 32, 128, 128],
  ["inception5b", 384, 192, 384, 48, 128, 128],
] as const;
/** The modules before which there is a max-pooling, and those after which there is an auxiliary head. */
const pools: Readonly<Record<string, string>> = { inception4a: "maxpool3", inception5a: "maxpool4" };
const heads: Readonly<Record<string, string>> = { inception4a: "aux1", inception4d: "aux2" };
const headWeight = 0.3;

/** What distinguishes torchvision's GoogLeNet from the paper's. */
interface Variant {
  /** Batch normalisation after each convolution, which then has no bias; no local response normalisation. */
  readonly batchNorm: boolean;
  /** The window of the third branch. */
  readonly thirdKernel: 3 | 5;
  /** The window of the last max-pooling. */
  readonly lastPool: 2 | 3;
  /** Of the last dense layer's input. */
  readonly dropout: number;
}

const paper: Variant = { batchNorm: false, thirdKernel: 5, lastPool: 3, dropout: 0.4 };
const torchvision: Variant = { batchNorm: true, thirdKernel: 3, lastPool: 2, dropout: 0.2 };

/** Convolution that keeps height and width at stride 1, batch normalisation where there is some, and ReLU. */
function convolution({ batchNorm }: Variant, x: AnyMap, filters: number, kernel: number, name: string, stride = 1) {
  const options = { padding: (kernel - 1) / 2, stride, bias: !batchNorm, name: `${name}.conv` };
  const y = x.conv(filters, kernel, options);
  return (batchNorm ? y.batchNorm({ epsilon: 1e-3, name: `${name}.bn` }) : y).relu({ name: `${name}.relu` });
}

/** [h, w, c] -> [h, w, the sum of the four branches' filters] */
function inception(variant: Variant, x: AnyMap, [name, one, reduce3, three, reduce5, five, project]: Module): AnyMap {
  const { thirdKernel } = variant;
  const branch = (x: AnyMap, filters: number, kernel: number, place: string) =>
    convolution(variant, x, filters, kernel, `${name}.${place}`);
  return concat(
    [
      branch(x, one, 1, "branch1"),
      branch(branch(x, reduce3, 1, "branch2.0"), three, 3, "branch2.1"),
      branch(branch(x, reduce5, 1, "branch3.0"), five, thirdKernel, "branch3.1"),
      branch(x.maxPool(3, { stride: 1, padding: 1, name: `${name}.branch4.0` }), project, 1, "branch4.1"),
    ],
    { name },
  );
}
type Module = (typeof modules)[number];

/** An auxiliary head: [14, 14, c] -> [classes] */
function head<Classes extends number>(variant: Variant, x: AnyMap, classes: Classes, name: string): Vector<Classes> {
  const pooled = headPool(variant, x, `${name}.avgpool`);
  return convolution(variant, pooled, 128, 1, `${name}.conv`)
    .flatten({ name: `${name}.flatten` })
    .dense(1024, { name: `${name}.fc1` })
    .relu({ name: `${name}.relu` })
    .dropout(0.7, { name: `${name}.dropout` })
    .dense(classes, { name: `${name}.fc2` });
}

/** The paper pools 5x5 with stride 3, which makes 4x4 of 14x14; torchvision pools any size adaptively to 4x4. */
function headPool({ batchNorm }: Variant, x: AnyMap, name: string): AnyMap {
  return batchNorm ? x.adaptiveAvgPool(4, { name }) : x.avgPool(5, { stride: 3, name });
}

function network<Classes extends number>(variant: Variant, image: AnyMap, classes: Classes): Outputs<Vector<Classes>> {
  const pool = (x: AnyMap, size: number, name: string) => x.maxPool(size, { stride: 2, ceilMode: true, name });
  const norm = (x: AnyMap, name: string) => (variant.batchNorm ? x : x.localResponseNorm(5, { name }));
  const auxiliary: { output: Vector<Classes>; lossWeight: number }[] = [];

  let x: AnyMap = pool(convolution(variant, image, 64, 7, "conv1", 2), 3, "maxpool1");
  x = convolution(variant, norm(x, "norm1"), 64, 1, "conv2");
  x = norm(convolution(variant, x, 192, 3, "conv3"), "norm2");
  x = pool(x, 3, "maxpool2");
  for (const module of modules) {
    const [name] = module;
    const poolName = pools[name];
    if (poolName) x = pool(x, poolName === "maxpool4" ? variant.lastPool : 3, poolName);
    x = inception(variant, x, module);
    const headName = heads[name];
    if (headName) auxiliary.push({ output: head(variant, x, classes, headName), lossWeight: headWeight });
  }
  const pooled = x.globalAvgPool({ name: "avgpool" }).flatten({ name: "flatten" });
  const output = pooled.dropout(variant.dropout, { name: "dropout" }).dense(classes, { name: "fc" });
  return { output, auxiliary };
}

/**
 * GoogLeNet as printed: inception modules with 5x5 branches, local response normalisation, and two auxiliary heads that
 * train with weight 0.3 and are dropped outside training.
 *
 * @param options `input` ([224, 224, 3]; sides from 79), `classes` (1000), and those of `model`: `seed`, `threads` ...
 * @returns [224, 224, 3] -> [1000]; layers conv1.conv, conv2.conv, conv3.conv, inception3a.branch1.conv ... fc, and of
 * the heads aux1.conv.conv, aux1.fc1, aux1.fc2, aux2 ...; 6,998,552 parameters and 1,582,671,872 mult-adds, with heads
 * 13,378,280 and 1,591,044,096
 * @throws FoveaError `INVALID_SHAPE` naming the layer that no longer fits when the input is too small
 * @see Szegedy et al. 2014, "Going Deeper with Convolutions", arXiv:1409.4842
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.googlenet().outputShape); // [ 1000 ]
 * ```
 */
export const googlenet = define(
  {
    name: "googlenet",
    year: 2014,
    paper: "Szegedy et al. 2014, Going Deeper with Convolutions",
    input: [224, 224, 3],
    classes: 1000,
    recipe: recipes.googlenet.optimizer,
  },
  (x, classes) => network(paper, x, classes),
);

/**
 * GoogLeNet as torchvision has it: batch normalisation, and a 3x3 window in the third branch; torchvision's weights fit.
 *
 * @param options `input` ([224, 224, 3]; sides from 31), `classes` (1000), and those of `model`: `seed`, `threads` ...
 * @returns [224, 224, 3] -> [1000]; layers as {@link googlenet}'s, with conv1.bn and so on; 6,624,904 parameters and
 * 1,498,376,192 mult-adds, with heads 13,004,888 and 1,506,748,416
 * @throws FoveaError `INVALID_SHAPE` naming the layer that no longer fits when the input is too small
 * @see Szegedy et al. 2014, "Going Deeper with Convolutions", arXiv:1409.4842; torchvision's `googlenet`, whose heads
 * pool 14x14 to 4x4 by windows of 4x4 that overlap unevenly
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.googlenetTorchvision({ input: [128, 128, 3], classes: 10 }).outputShape); // [ 10 ]
 * ```
 */
export const googlenetTorchvision = define(
  {
    name: "googlenet-torchvision",
    year: 2014,
    paper: "Szegedy et al. 2014, Going Deeper with Convolutions",
    input: [224, 224, 3],
    classes: 1000,
    recipe: recipes.googlenet.optimizer,
  },
  (x, classes) => network(torchvision, x, classes),
);
