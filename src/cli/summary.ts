import { type Command, Option } from "commander";
import { formatSummary, summarize } from "../report/summary.js";
import { type ModelSizes, modelHelp, resolveModel } from "./model-argument.js";
import { imageShape, jsonOption, positiveInteger, type SharedOptions } from "./options.js";
import { printResult } from "./output.js";

export function addSummary(program: Command): void {
  program
    .command("summary")
    .description("Show a network's layers, shapes and counts, and advice on its sizes.")
    .argument("<model>", modelHelp)
    .addOption(new Option("--input <HxWxC>", "another image size for a zoo model").argParser(imageShape))
    .addOption(new Option("--classes <n>", "another number of classes for a zoo model").argParser(positiveInteger))
    .addOption(jsonOption())
    .action(async (text: string, { json, input, classes }: SharedOptions & ModelSizes) => {
      const { definition } = await resolveModel(text, { input, classes });
      printResult(json, summarize(definition), formatSummary);
    });
}
