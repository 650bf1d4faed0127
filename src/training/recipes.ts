import { type Augmentation, augment } from "../data/augmentations.js";
import { invalidArgument } from "../errors.js";
import type { FitOptions } from "./fit-options.js";
import { type Optimizer, sgd } from "./optimizers.js";
import { cosine, inverse, multiStep, oneCycle, step } from "./schedules.js";

/** What trains a kind of network well on a kind of data: options of `fit`, under a name. */
export interface Recipe {
  /** What it is for, where it comes from, and what it reaches. */
  readonly description: string;
  /** The length of the run; one of the two. */
  readonly epochs?: number;
  readonly steps?: number;
  readonly batchSize: number;
  readonly optimizer: Optimizer;
  /** Default 0. */
  readonly labelSmoothing?: number;
  /** Default: nothing. */
  readonly augment?: readonly Augmentation[];
}

export type RecipeName =
  | "lenet5-mnist"
  | "lenet5-fashion"
  | "lenet5-long"
  | "lenet5-1998"
  | "cifar-fast"
  | "resnet-cifar-paper"
  | "resnet-cifar"
  | "resnet-imagenet"
  | "alexnet"
  | "googlenet"
  | "mobilenet";

/** For CIFAR-sized images: shifted by up to four pixels, mirrored at random. */
const shiftAndFlip = [augment.crop({ padding: 4 }), augment.flip()] as const;

/** For ImageNet-sized images: a part of the image, mirrored at random. */
const partAndFlip = [augment.resizedCrop(), augment.flip(), augment.normalize("imagenet")] as const;

/**
 * Every recipe, by name.
 *
 * A zoo model for which no recipe is named takes the optimizer of its own one. Such schedules do not depend on the length
 * of the run, so that a run that is made longer is the one that was long from the beginning.
 */
export const recipes: Readonly<Record<RecipeName, Recipe>> = {
  "lenet5-mnist": {
    description: "LeNet-5 on MNIST: 99.4 % in 10 epochs",
    epochs: 10,
    batchSize: 64,
    optimizer: sgd({ learningRate: oneCycle(0.1), nesterov: true, weightDecay: 5e-4 }),
    labelSmoothing: 0.05,
  },
  "lenet5-fashion": {
    description: "LeNet-5 on Fashion-MNIST, mirrored at random: 91.7 % in 20 epochs",
    epochs: 20,
    batchSize: 64,
    optimizer: sgd({ learningRate: oneCycle(0.1), nesterov: true, weightDecay: 5e-4 }),
    labelSmoothing: 0.05,
    augment: [augment.flip()],
  },
  "lenet5-long": {
    description: "LeNet-5 for any number of epochs: the rate falls without knowing the end",
    epochs: 10,
    batchSize: 64,
    optimizer: sgd({ learningRate: inverse(0.05, { decay: 0.001 }), weightDecay: 5e-4 }),
  },
  "lenet5-1998": {
    description:
      "LeNet-5 as printed, by its maximum a posteriori criterion, on MNIST: 99.0 % in 20 epochs, as many as then",
    epochs: 20,
    batchSize: 64,
    optimizer: sgd({ learningRate: cosine(0.004) }),
  },
  "cifar-fast": {
    description:
      "CIFAR-10 with the network of examples/cifar10-fast.ts: 94.0 % in 24 epochs, 94.6 % with mirror images",
    epochs: 24,
    batchSize: 500,
    optimizer: sgd({
      learningRate: oneCycle(0.4, { rise: 0.2, anneal: "linear" }),
      nesterov: true,
      weightDecay: 5e-4,
    }),
    labelSmoothing: 0.1,
    augment: [
      augment.crop({ padding: 4, fill: "reflect" }),
      augment.flip(),
      augment.normalize("cifar10"),
      augment.cutout({ size: 8 }),
    ],
  },
  "resnet-cifar-paper": {
    description: "ResNet-20 to 110 on CIFAR-10 as their paper trains them (He et al. 2015, section 4.2)",
    steps: 64_000,
    batchSize: 128,
    optimizer: sgd({
      learningRate: multiStep(0.1, { milestones: [32_000, 48_000], unit: "steps" }),
      weightDecay: 1e-4,
    }),
    augment: [augment.normalize("cifar10"), ...shiftAndFlip],
  },
  "resnet-cifar": {
    description: "ResNet-20 to 110 on CIFAR-10 in a quarter of the paper's steps",
    epochs: 40,
    batchSize: 128,
    optimizer: sgd({ learningRate: cosine(0.1, { warmup: 400 }), weightDecay: 5e-4, nesterov: true }),
    augment: [augment.normalize("cifar10"), ...shiftAndFlip],
  },
  "resnet-imagenet": {
    description: "ResNet-18 to 152 on folders of photographs (He et al. 2015, section 3.4)",
    epochs: 90,
    batchSize: 256,
    optimizer: sgd({ learningRate: step(0.1, { every: 30 }), weightDecay: 1e-4 }),
    augment: partAndFlip,
  },
  alexnet: {
    description: "AlexNet on folders of photographs (Krizhevsky et al. 2012, section 5)",
    epochs: 90,
    batchSize: 128,
    optimizer: sgd({ learningRate: step(0.01, { every: 25 }), weightDecay: 5e-4 }),
    augment: partAndFlip,
  },
  googlenet: {
    description: "GoogLeNet on folders of photographs (Szegedy et al. 2014, section 6)",
    epochs: 90,
    batchSize: 32,
    optimizer: sgd({ learningRate: step(0.01, { every: 8, factor: 0.96 }), weightDecay: 2e-4 }),
    augment: partAndFlip,
  },
  mobilenet: {
    description: "MobileNet on folders of photographs: little weight decay (Howard et al. 2017, section 3.2)",
    epochs: 90,
    batchSize: 64,
    optimizer: sgd({ learningRate: step(0.05, { every: 30, warmup: 400 }), weightDecay: 4e-5 }),
    augment: partAndFlip,
  },
};

/**
 * The options of a recipe, for `fit`; whatever is given beside them counts.
 *
 * @param name one of `fovea train --help`: `"cifar-fast"`, for example
 * @throws FoveaError `INVALID_ARGUMENT` with the names there are
 * @example
 * ```ts
 * import { datasets, recipe, zoo } from "fovea";
 *
 * const { train, test } = await datasets.mnist();
 * const lenet = zoo.lenet5();
 * const run = await lenet.fit(train, { ...recipe("lenet5-mnist"), epochs: 1, validation: test });
 * console.log(run.steps); // 938
 * ```
 */
export function recipe(name: RecipeName): Omit<Recipe, "description"> & FitOptions {
  if (!isRecipe(name)) throw invalidArgument("recipe", `one of ${Object.keys(recipes).join(", ")}`, `"${name}"`);
  const { description: _, ...options }: Recipe = recipes[name];
  return options;
}

/** Whether a recipe has this name. */
export function isRecipe(name: string): name is RecipeName {
  return Object.hasOwn(recipes, name);
}
