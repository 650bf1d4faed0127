import { type Command, Option } from "commander";
import { FoveaError } from "../errors.js";
import { type NpyArray, readNpy, writeNpy } from "../native.js";
import { loadModel, modelHelp, noteUntrained } from "./model-argument.js";
import { addInferenceOptions, type InferenceOptions } from "./options.js";
import { printResult } from "./output.js";

interface RunOptions extends InferenceOptions {
  readonly input: string;
  readonly output: string;
}

export function addRun(program: Command): void {
  const command = program
    .command("run")
    .description("Compute a network's output for the images in a NumPy file.")
    .argument("<model>", modelHelp)
    .addOption(
      new Option(
        "--input <x.npy>",
        "N x H x W x C, for .onnx models as they have it: u8, scaled to 0..1, or f32",
      ).makeOptionMandatory(),
    )
    .addOption(new Option("--output <y.npy>", "where to write the last layer's values, f32").makeOptionMandatory());
  addInferenceOptions(command, 64).action(run);
}

async function run(text: string, { input, output, batch, json, ...options }: RunOptions): Promise<void> {
  const loaded = await loadModel(text, options);
  const { model, onnx } = loaded;
  try {
    const array = await readNpy(input);
    const wanted = onnx?.input.shape ?? model.inputShape;
    const [count = 0, ...image] = array.shape;
    if (count === 0 || image.join() !== wanted.join()) {
      const expected = `[${["images", ...wanted].join(", ")}]`;
      throw new FoveaError(
        "INVALID_DATA",
        `Expected an array of ${expected} for ${loaded.name} but ${input} has the shape [${array.shape.join(", ")}].`,
      );
    }
    const images = onnx ? await onnx.toImages(pixels(input, array)) : pixels(input, array);
    const size = images.length / count;
    const began = performance.now();
    const values = new Float32Array(count * model.session.outputSize);
    for (let first = 0; first < count; first += batch) {
      const here = Math.min(batch, count - first);
      const scores = await model.session.predict(images.subarray(first * size, (first + here) * size), here);
      values.set(scores, first * model.session.outputSize);
    }
    const milliseconds = performance.now() - began;
    const shape = [count, ...(onnx?.output.shape ?? model.outputShape)];
    await writeNpy(output, onnx ? await onnx.toOutputs(values) : values, shape);
    printResult(
      json,
      { output, shape, milliseconds },
      () => `${output}: [${shape.join(", ")}], computed in ${milliseconds.toFixed(1)} ms`,
    );
    noteUntrained(loaded);
  } finally {
    await model.close();
  }
}

/** The images as training sees them: bytes scaled to 0..1, floats as they are. */
function pixels(path: string, { data, dtype }: NpyArray): Float32Array {
  if (data instanceof Float32Array) return data;
  if (data instanceof Uint8Array) return Float32Array.from(data, (value) => value / 255);
  throw new FoveaError("INVALID_DATA", `Expected uint8 or float32 values but ${path} holds ${dtype}.`);
}
