import { type Command, Option } from "commander";
import type { Augmentation } from "../data/augmentations.js";
import { FoveaError } from "../errors.js";
import type { Model } from "../model/model.js";
import { decodeImages } from "../native.js";
import { loadModel, modelHelp, noteUntrained } from "./model-argument.js";
import { addInferenceOptions, type InferenceOptions, positiveInteger } from "./options.js";
import { percent, printResult } from "./output.js";

interface PredictOptions extends InferenceOptions {
  readonly top: number;
}

interface Prediction {
  readonly file: string;
  readonly classes: readonly { readonly label: string; readonly probability: number }[];
}

export function addPredict(program: Command): void {
  const command = program
    .command("predict")
    .description("Say what is on pictures: the most probable classes of image files.")
    .argument("<model>", modelHelp)
    .argument("<image...>", "JPEG, PNG or WebP files")
    .addOption(new Option("--top <k>", "classes to tell of each image").argParser(positiveInteger).default(5));
  addInferenceOptions(command, 64).action(predict);
}

async function predict(text: string, files: readonly string[], options: PredictOptions): Promise<void> {
  const { top, batch, json, ...rest } = options;
  const loaded = await loadModel(text, rest);
  const { model, classNames, augment } = loaded;
  try {
    const predictions: Prediction[] = [];
    for (let first = 0; first < files.length; first += batch) {
      const some = files.slice(first, first + batch);
      const rows = await model.predict(normalized(await decode(some, model), model, augment));
      for (const [index, file] of some.entries()) {
        const probabilities = toProbabilities(rows[index] ?? new Float32Array(), model);
        predictions.push({ file, classes: best(probabilities, top, classNames) });
      }
    }
    printResult(json, predictions, format);
    noteUntrained(loaded);
  } finally {
    await model.close();
  }
}

async function decode(files: readonly string[], { inputShape, definition }: Model): Promise<Float32Array> {
  const [height, width, channels] = inputShape;
  if (channels !== 1 && channels !== 3) {
    throw new FoveaError(
      "INVALID_DATA",
      `Expected a network that reads 1 or 3 channels for image files but "${definition.name}" reads ${channels}.`,
    );
  }
  return decodeImages([...files], { height, width, channels });
}

/** As training prepared its images: less the mean and over the deviation of each channel, where it did so. */
function normalized(images: Float32Array, { inputShape }: Model, augment: readonly Augmentation[]): Float32Array {
  const channels = inputShape[2];
  for (const each of augment) {
    if (each.kind !== "normalize") continue;
    const { mean, deviation } = each;
    images = images.map((value, index) => {
      const channel = index % channels;
      return (value - (mean?.[channel] ?? 0)) / (deviation?.[channel] ?? 1);
    });
  }
  return images;
}

/** Scores as training's loss understands them; a network that ends in softmax gives probabilities itself. */
function toProbabilities(scores: Float32Array, { definition }: Model): Float32Array {
  const [output] = definition.outputs;
  const last = definition.nodes.find(({ name }) => name === output?.node);
  if (last?.op === "softmax" || last?.op === "sigmoid") return scores;
  if (output?.loss?.kind === "binaryCrossEntropy") return scores.map((score) => 1 / (1 + Math.exp(-score)));
  const highest = scores.reduce((highest, score) => Math.max(highest, score), Number.NEGATIVE_INFINITY);
  const powers = scores.map((score) => Math.exp(score - highest));
  const sum = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / sum);
}

function best(probabilities: Float32Array, top: number, classNames: readonly string[]): Prediction["classes"] {
  return Array.from(probabilities, (probability, label) => ({ label: classNames[label] ?? String(label), probability }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, top);
}

function format(predictions: readonly Prediction[]): string {
  return predictions
    .map(({ file, classes }) => {
      const width = Math.max(...classes.map(({ label }) => label.length));
      const lines = classes.map(({ label, probability }) => {
        return `  ${label.padEnd(width)}  ${percent(probability, 1).padStart(7)}`;
      });
      return [file, ...lines].join("\n");
    })
    .join("\n");
}
