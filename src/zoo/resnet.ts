import { recipes } from "../training/recipes.js";
import { type AnyMap, define } from "./architecture.js";

/** ResNet (He et al. 2015, arXiv:1512.03385), Table 1: the blocks of each stage. */
const imagenet = {
  resnet18: ["basic", [2, 2, 2, 2]],
  resnet34: ["basic", [3, 4, 6, 3]],
  resnet50: ["bottleneck", [3, 4, 6, 3]],
  resnet101: ["bottleneck", [3, 4, 23, 3]],
  resnet152: ["bottleneck", [3, 8, 36, 3]],
} as const;
/** Section 4.2: the blocks of each of three stages. */
const cifar = { resnet20: 3, resnet32: 5, resnet44: 7, resnet56: 9, resnet110: 18 } as const;

const paper = "He et al. 2015, Deep Residual Learning for Image Recognition";

/** A convolution without bias that keeps height and width at stride 1, and batch normalisation. */
function convolution(x: AnyMap, filters: number, kernel: number, stride: number, name: string, norm: string): AnyMap {
  const padding = (kernel - 1) / 2;
  return x.conv(filters, kernel, { stride, padding, bias: false, name }).batchNorm({ name: norm });
}

/** What a block adds to its convolutions' result: its input, where the shapes are equal, else something made of it. */
type Shortcut = (x: AnyMap, filters: number, stride: number, block: string) => AnyMap;

/** Option B: a convolution of 1x1 where the shape changes. */
const projection: Shortcut = (x, filters, stride, block) => {
  if (stride === 1 && x.shape[2] === filters) return x;
  return convolution(x, filters, 1, stride, `${block}.downsample.0`, `${block}.downsample.1`);
};

/** Option A, without parameters: every second pixel, and zeros as further channels. */
const zeros: Shortcut = (x, filters, stride, block) => {
  if (stride === 1) return x;
  const pixels = x.avgPool(1, { stride, name: `${block}.downsample.0` });
  return pixels.pad(0, { channels: [0, filters - x.shape[2]], name: `${block}.downsample.1` });
};

/** Two convolutions of 3x3: [h, w, c] -> [h / stride, w / stride, filters] */
function basic(x: AnyMap, filters: number, stride: number, name: string, shortcut: Shortcut): AnyMap {
  const first = convolution(x, filters, 3, stride, `${name}.conv1`, `${name}.bn1`).relu();
  const second = convolution(first, filters, 3, 1, `${name}.conv2`, `${name}.bn2`);
  return second.add(shortcut(x, filters, stride, name)).relu();
}

/** 1x1, 3x3, 1x1, the stride in the 3x3 as torchvision has it: [h, w, c] -> [h / stride, w / stride, 4 * filters] */
function bottleneck(x: AnyMap, filters: number, stride: number, name: string, shortcut: Shortcut): AnyMap {
  const first = convolution(x, filters, 1, 1, `${name}.conv1`, `${name}.bn1`).relu();
  const second = convolution(first, filters, 3, stride, `${name}.conv2`, `${name}.bn2`).relu();
  const third = convolution(second, 4 * filters, 1, 1, `${name}.conv3`, `${name}.bn3`);
  return third.add(shortcut(x, 4 * filters, stride, name)).relu();
}

/** Stages of blocks; each but the first halves height and width and doubles the filters. */
function stages(
  x: AnyMap,
  depths: readonly number[],
  filters: number,
  block: typeof basic,
  shortcut: Shortcut,
): AnyMap {
  for (const [stage, depth] of depths.entries()) {
    for (let index = 0; index < depth; index += 1) {
      const stride = stage > 0 && index === 0 ? 2 : 1;
      x = block(x, filters * 2 ** stage, stride, `layer${stage + 1}.${index}`, shortcut);
    }
  }
  return x;
}

function imagenetNetwork(name: keyof typeof imagenet) {
  const [kind, depths] = imagenet[name];
  const block = { basic, bottleneck }[kind];
  return define(
    { name, year: 2015, paper, input: [224, 224, 3], classes: 1000, recipe: recipes["resnet-imagenet"].optimizer },
    (image, classes) => {
      const stem = convolution(image, 64, 7, 2, "conv1", "bn1").relu();
      const x = stages(stem.maxPool(3, { stride: 2, padding: 1, name: "maxpool" }), depths, 64, block, projection);
      return x.globalAvgPool({ name: "avgpool" }).flatten().dense(classes, { name: "fc" });
    },
  );
}

function cifarNetwork(name: keyof typeof cifar) {
  const depth = cifar[name];
  return define(
    { name, year: 2015, paper, input: [32, 32, 3], classes: 10, recipe: recipes["resnet-cifar-paper"].optimizer },
    (image, classes) => {
      const stem = convolution(image, 16, 3, 1, "conv1", "bn1").relu();
      const x = stages(stem, [depth, depth, depth], 16, basic, zeros);
      return x.globalAvgPool({ name: "avgpool" }).flatten().dense(classes, { name: "fc" });
    },
  );
}

/**
 * ResNet-18: two basic blocks a stage; torchvision's weights fit.
 *
 * @param options `input` ([224, 224, 3]; any size), `classes` (1000), and those of `model`: `seed`, `threads` ...
 * @returns [224, 224, 3] -> [1000]; layers conv1, bn1, layer1.0.conv1 ... layer4.1.bn2, fc; 11,689,512 parameters,
 * 1,814,073,344 mult-adds
 * @see He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.resnet18({ input: [64, 64, 3], classes: 10 }).outputShape); // [ 10 ]
 * ```
 */
export const resnet18 = imagenetNetwork("resnet18");

/** ResNet-34: basic blocks, like {@link resnet18}; 21,797,672 parameters, 3,663,761,408 mult-adds. */
export const resnet34 = imagenetNetwork("resnet34");

/** ResNet-50: bottleneck blocks, otherwise like {@link resnet18}; 25,557,032 parameters, 4,089,184,256 mult-adds. */
export const resnet50 = imagenetNetwork("resnet50");

/** ResNet-101, like {@link resnet50}; 44,549,160 parameters, 7,801,405,440 mult-adds. */
export const resnet101 = imagenetNetwork("resnet101");

/** ResNet-152, like {@link resnet50}; 60,192,808 parameters, 11,513,626,624 mult-adds. */
export const resnet152 = imagenetNetwork("resnet152");

/**
 * ResNet-20 for CIFAR: three basic blocks a stage, shortcuts without parameters (option A).
 *
 * @param options `input` ([32, 32, 3]; any size), `classes` (10), and those of `model`: `seed`, `threads` ...
 * @returns [32, 32, 3] -> [10]; layers conv1, bn1, layer1.0.conv1 ... layer3.2.bn2, fc; 269,722 parameters, 40,551,040
 * mult-adds
 * @see He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2
 * @example
 * ```ts
 * import { zoo } from "fovea";
 *
 * console.log(zoo.resnet20().outputShape); // [ 10 ]
 * ```
 */
export const resnet20 = cifarNetwork("resnet20");

/** ResNet-32 for CIFAR, like {@link resnet20}; 464,154 parameters, 68,862,592 mult-adds. */
export const resnet32 = cifarNetwork("resnet32");

/** ResNet-44 for CIFAR, like {@link resnet20}; 658,586 parameters, 97,174,144 mult-adds. */
export const resnet44 = cifarNetwork("resnet44");

/** ResNet-56 for CIFAR, like {@link resnet20}; 853,018 parameters, 125,485,696 mult-adds. */
export const resnet56 = cifarNetwork("resnet56");

/** ResNet-110 for CIFAR, like {@link resnet20}; 1,727,962 parameters, 252,887,680 mult-adds. */
export const resnet110 = cifarNetwork("resnet110");
