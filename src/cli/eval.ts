import { type Command, Option } from "commander";
import { plainTable } from "../report/table.js";
import { checkDataset } from "../training/check-dataset.js";
import { type ClassMetrics, perClass } from "../training/per-class.js";
import { corruptOption, dataOption, noteSkipped, parseData } from "./data-argument.js";
import { loadModel, modelHelp, noteUntrained } from "./model-argument.js";
import { addInferenceOptions, type InferenceOptions } from "./options.js";
import { percent, printResult, whole } from "./output.js";

interface EvalOptions extends InferenceOptions {
  readonly data: string;
  readonly corrupt?: "fail" | "skip";
  readonly mirrored?: boolean;
}

interface EvalResult {
  readonly accuracy: number;
  readonly top5: number;
  readonly loss: number;
  readonly images: number;
  /** Rows are labels, columns what the network said. */
  readonly confusion: readonly (readonly number[])[];
  readonly perClass: readonly ClassMetrics[];
}

export function addEval(program: Command): void {
  const command = program
    .command("eval")
    .description("Measure loss, accuracy and confusion on test images.")
    .argument("<model>", modelHelp)
    .addOption(dataOption().makeOptionMandatory())
    .addOption(corruptOption())
    .addOption(new Option("--mirrored", "judge by the mean of the scores of an image and its mirror image"));
  addInferenceOptions(command, 256).action(evaluate);
}

async function evaluate(
  text: string,
  { data, corrupt, batch, json, mirrored, ...options }: EvalOptions,
): Promise<void> {
  const loaded = await loadModel(text, options);
  const { model, augment } = loaded;
  try {
    const dataset = await parseData(data, { corrupt }).test(model.inputShape);
    checkDataset(model, dataset);
    const { confusion, accuracy, top5, loss, images } = await model.evaluate(dataset, {
      batchSize: batch,
      augment,
      mirrored,
    });
    const classes = Math.sqrt(confusion.length);
    const rows = Array.from({ length: classes }, (_, row) => [
      ...confusion.subarray(row * classes, (row + 1) * classes),
    ]);
    const names = loaded.classNames.length > 0 ? loaded.classNames : dataset.classNames;
    printResult(json, { accuracy, top5, loss, images, confusion: rows, perClass: perClass(rows, names) }, format);
    noteSkipped([dataset]);
    noteUntrained(loaded);
  } finally {
    await model.close();
  }
}

function format({ accuracy, top5, loss, images, confusion, perClass }: EvalResult): string {
  const name = (label: number): string => perClass[label]?.label ?? String(label);
  const lines = [
    `accuracy  ${percent(accuracy)}   (${whole(accuracy * images)} of ${whole(images)} images)`,
    `top 5     ${percent(top5)}`,
    `loss      ${loss.toFixed(4)}`,
  ];
  const mistakes = confusion
    .flatMap((row, label) => row.map((count, said) => ({ label, said, count })))
    .filter(({ label, said, count }) => label !== said && count > 0)
    .sort((a, b) => b.count - a.count)
    .slice(0, 5)
    .map(({ label, said, count }) => `${name(label)} taken for ${name(said)} (${count})`);
  const share = (value: number | null): string => (value === null ? "-" : percent(value));
  const table = plainTable(
    [{ title: "class", align: "left" }, { title: "images" }, { title: "recall" }, { title: "precision" }],
    perClass.map(({ label, images, recall, precision }) => [label, whole(images), share(recall), share(precision)]),
  );
  return [...lines, ...(mistakes.length === 0 ? [] : [`mistakes  ${mistakes.join(", ")}`]), "", table].join("\n");
}
