import type { Command } from "commander";
import { Option } from "commander";
import { isOnnx } from "../model/model.js";
import { loadModel, modelHelp, noteUntrained } from "./model-argument.js";
import { jsonOption, type SharedOptions, seedOption, weightsOption } from "./options.js";
import { printResult, UsageError, whole } from "./output.js";

interface ExportOptions extends SharedOptions {
  readonly onnx?: string;
  readonly safetensors?: string;
  readonly weights?: string;
}

export function addExport(program: Command): void {
  program
    .command("export")
    .description("Write a network as ONNX, or its weights as safetensors.")
    .argument("<model>", modelHelp)
    .addOption(new Option("--onnx <file>", "the network for inference, with its weights").conflicts("safetensors"))
    .addOption(new Option("--safetensors <file>", "the weights, in PyTorch's names and layouts"))
    .addOption(weightsOption())
    .addOption(seedOption())
    .addOption(jsonOption())
    .action(write);
}

async function write(text: string, { onnx, safetensors, json, ...options }: ExportOptions): Promise<void> {
  const file = onnx ?? safetensors;
  if (file === undefined) throw new UsageError("Expected --onnx or --safetensors with the file to write.");
  // The model goes by the ending, so that a file is what its name says.
  if (isOnnx(file) !== (onnx !== undefined)) {
    const expected =
      onnx === undefined ? "--safetensors with a name of another ending than" : "--onnx with a name ending in";
    throw new UsageError(`Expected ${expected} .onnx but received "${file}".`);
  }
  const loaded = await loadModel(text, options);
  try {
    const bytes = await loaded.model.save(file);
    printResult(json, { file, bytes }, () => `${file}: ${whole(bytes)} bytes`);
    noteUntrained(loaded);
  } finally {
    await loaded.model.close();
  }
}
