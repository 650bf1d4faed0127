import { writeFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import { diagram } from "../report/diagram/index.js";
import { formatSummary, summarize } from "../report/summary.js";
import { type ModelSizes, modelHelp, resolveModel } from "./model-argument.js";
import { imageShape, jsonOption, positiveInteger, type SharedOptions } from "./options.js";
import { printNote, printResult } from "./output.js";

interface SummaryOptions extends SharedOptions, ModelSizes {
  readonly diagram?: string;
}

export function addSummary(program: Command): void {
  program
    .command("summary")
    .description("Show a network's layers, shapes and counts, and advice on its sizes.")
    .argument("<model>", modelHelp)
    .addOption(new Option("--input <HxWxC>", "another image size for a zoo model").argParser(imageShape))
    .addOption(new Option("--classes <n>", "another number of classes for a zoo model").argParser(positiveInteger))
    .option("--diagram <file>", "also draw the network, as SVG")
    .addOption(jsonOption())
    .action(async (text: string, { json, input, classes, diagram: file }: SummaryOptions) => {
      const { definition } = await resolveModel(text, { input, classes });
      if (file !== undefined) {
        await writeFile(file, diagram(definition));
        printNote(`the network is drawn in ${file}`);
      }
      printResult(json, summarize(definition), formatSummary);
    });
}
