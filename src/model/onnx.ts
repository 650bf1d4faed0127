import { check, checkedOptions, kinds } from "../arguments.js";
import { OnnxModel } from "../native.js";
import type { GraphDefinition } from "./definition.js";
import { Model, type ModelOptions } from "./model.js";
import type { MapShape } from "./shape.js";

/** Options of {@link loadOnnx}, besides those of every model but its name, which the file has. */
export interface LoadOnnxOptions extends Omit<ModelOptions, "name"> {
  /** Height, width and channels of an image, where the file does not state them. */
  readonly input?: MapShape | undefined;
  /** Name of the value to compute. Default: the file's first output. */
  readonly output?: string | undefined;
}

/**
 * Reads a network and its weights from an ONNX file; it predicts at once, and can be trained further.
 *
 * The operators of convolutional networks are understood, in their versions 7 to 22, with values in the file or in files
 * beside it. Images are `height x width x channels` here as everywhere, whatever the order in the file.
 *
 * @param path the `.onnx` file
 * @param options `input` and `output` where the file leaves them open; `seed` (0), `threads` (all), `precision` (`"fast"`)
 * @returns a model with the file's weights
 * @throws FoveaError `INVALID_GRAPH` naming the node whose operator or option has no layer here; `INVALID_DATA` when the
 * file is no ONNX model; `IO` when it cannot be read
 * @example
 * ```ts
 * import { mkdtempSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { loadOnnx, zoo } from "fovea";
 *
 * const path = join(mkdtempSync(join(tmpdir(), "onnx-")), "lenet5.onnx");
 * await zoo.lenet5().save(path);
 * const lenet = await loadOnnx(path);
 * console.log(lenet.inputShape, lenet.outputShape); // [ 28, 28, 1 ] [ 10 ]
 * const [scores] = await lenet.predict(new Float32Array(28 * 28));
 * console.log(scores?.length); // 10
 * ```
 */
export async function loadOnnx(path: string, options: LoadOnnxOptions = {}): Promise<Model> {
  check("path", kinds.string, path);
  const { input, output, ...rest } = checkedOptions(options);
  const onnx = await OnnxModel.read(path, {
    ...(input !== undefined && { input: [...input] }),
    ...(output !== undefined && { output }),
  });
  const model = new Model(onnxDefinition(onnx), rest);
  await model.session.loadOnnx(onnx);
  return model;
}

/** The definition of a network that was read. */
export function onnxDefinition(onnx: OnnxModel): GraphDefinition {
  return JSON.parse(onnx.graph);
}
