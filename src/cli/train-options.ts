/** The options of `fovea train`. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { type Augmentation, augmentationHelp, parseAugmentation } from "../data/augmentations.js";
import { FoveaError } from "../errors.js";
import { defaultLearningRates } from "../training/optimizers.js";
import { recipes } from "../training/recipes.js";
import { corruptOption, dataOption } from "./data-argument.js";
import { modelHelp } from "./model-argument.js";
import { groupOption, optimizerOption } from "./optimizer-option.js";
import {
  algorithmOption,
  fraction,
  imageShape,
  jsonOption,
  nonNegativeNumber,
  positiveInteger,
  positiveNumber,
  precisionOption,
  seedOption,
  threadsOption,
  wholeNumber,
} from "./options.js";
import { scheduleOption } from "./schedule-option.js";

const rates = Object.entries(defaultLearningRates)
  .map(([name, rate]) => `${rate} of ${name}`)
  .join(", ");

export function addTrainOptions(command: Command): Command {
  return command
    .argument("[model]", `${modelHelp}; not needed with --resume`)
    .addOption(dataOption())
    .addOption(
      new Option(
        "--validation <share>",
        "keep this share of every class's training images to validate with, instead of the test images",
      ).argParser(fraction),
    )
    .addOption(corruptOption())
    .addOption(
      new Option("--input <HxWxC>", "another image size for a zoo model").argParser(imageShape).conflicts("resume"),
    )
    .addOption(
      new Option("--classes <n>", "another number of classes for a zoo model")
        .argParser(positiveInteger)
        .conflicts("resume"),
    )
    .addOption(new Option("--out <run>", "directory to write; new or empty"))
    .addOption(new Option("--resume <run>", "go on with a run from its last checkpoint, with its own options"))
    .addOption(new Option("--epochs <n>", "passes over the data, in all (default: 10)").argParser(positiveInteger))
    .addOption(
      new Option("--steps <n>", "batches, in all; instead of --epochs").argParser(positiveInteger).conflicts("epochs"),
    )
    .addOption(
      new Option("--recipe <name>", "begin with the options of a recipe, see below").choices(Object.keys(recipes)),
    )
    .addOption(new Option("--batch <n>", "images a step (default: 64)").argParser(positiveInteger))
    .addOption(optimizerOption())
    .addOption(new Option("--lr <rate>", `learning rate (default: ${rates})`).argParser(positiveNumber))
    .addOption(
      new Option(
        "--momentum <m>",
        "of sgd, rmsprop and lars, from 0 to below 1 (default: 0.9, of rmsprop 0)",
      ).argParser(fraction),
    )
    .addOption(new Option("--nesterov", "use Nesterov's momentum, with sgd and lars"))
    .addOption(
      new Option("--weight-decay <d>", "pull of every weight to zero (default: 0, of adamw and lamb 0.01)").argParser(
        nonNegativeNumber,
      ),
    )
    .addOption(new Option("--no-decay-norm", "spare biases and normalisations the weight decay"))
    .addOption(groupOption())
    .addOption(scheduleOption())
    .addOption(new Option("--warmup <steps>", "rise to the learning rate linearly (default: 0)").argParser(wholeNumber))
    .addOption(new Option("--label-smoothing <s>", "share spread over all classes (default: 0)").argParser(fraction))
    .addOption(
      new Option(
        "--class-weights <weights>",
        "factors of the classes' loss, as in 1,1,5; or balanced, under which every class counts the same",
      ).argParser(classWeights),
    )
    .addOption(new Option("--clip-norm <norm>", "scale larger gradients down to this norm").argParser(positiveNumber))
    .addOption(
      new Option("--accumulate <parts>", "compute a batch in so many parts, to save memory (default: 1)").argParser(
        positiveInteger,
      ),
    )
    .addOption(
      new Option("--ema <decay>", "average the weights, 0.999 for example, and judge and write the averages").argParser(
        fraction,
      ),
    )
    .addOption(new Option("--freeze <layers...>", "layers, or blocks of them, that do not learn"))
    .addOption(new Option("--no-shuffle", "keep the order of the images"))
    .addOption(new Option("--drop-last", "leave out the last batch of an epoch where it is smaller"))
    .addOption(new Option("--augment <list>", augmentationHelp).argParser(augmentation))
    .addOption(new Option("--no-augment", "train on the images as they are, which is the default"))
    .addOption(new Option("--weights <file>", "initial weights, as safetensors"))
    .addOption(new Option("--except <layers...>", "layers that --weights leaves as they are, as a new head"))
    .addOption(new Option("--save-every <steps>", "save inside an epoch too").argParser(positiveInteger))
    .addOption(
      new Option("--keep <n>", "keep the last so many checkpoints, in RUN/checkpoints").argParser(positiveInteger),
    )
    .addOption(new Option("--save-best", "keep the weights of the best epoch, in RUN/best.safetensors"))
    .addOption(
      new Option("--patience <epochs>", "stop when so many epochs brought no new best").argParser(positiveInteger),
    )
    .addOption(
      new Option(
        "--monitor <metric>",
        "what says which epoch is the best (default: validationAccuracy, else trainLoss)",
      ).choices(["trainLoss", "validationLoss", "validationAccuracy"]),
    )
    .addOption(new Option("--csv", "write the epochs to RUN/metrics.csv too"))
    .addOption(new Option("--find-lr", "try rising learning rates for some steps, print the losses and a suggestion"))
    .addOption(new Option("--view", "serve the run's page on 127.0.0.1 while it is trained"))
    .addOption(threadsOption())
    .addOption(seedOption())
    .addOption(precisionOption())
    .addOption(algorithmOption())
    .addOption(jsonOption());
}

function classWeights(text: string): "balanced" | number[] {
  return text === "balanced" ? text : text.split(",").map(nonNegativeNumber);
}

function augmentation(text: string): Augmentation[] {
  try {
    return parseAugmentation(text);
  } catch (error) {
    throw error instanceof FoveaError ? new InvalidArgumentError(error.message) : error;
  }
}
