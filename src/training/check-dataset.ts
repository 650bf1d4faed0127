import { FoveaError } from "../errors.js";
import type { Model } from "../model/model.js";
import type { Dataset } from "../native.js";

/**
 * Checks that a model can read a data set's images and name its classes, before anything is computed or written.
 *
 * @throws FoveaError `INVALID_DATA` with both sizes
 */
export function checkDataset({ definition, inputShape, outputSize }: Model, { shape, classes }: Dataset): void {
  const image = shape.slice(1);
  if (image.join() !== inputShape.join()) {
    throw new FoveaError(
      "INVALID_DATA",
      `Expected images of [${inputShape.join(", ")}] for "${definition.name}" but the data has [${image.join(", ")}].`,
    );
  }
  if (classes > outputSize) {
    throw new FoveaError(
      "INVALID_DATA",
      `Expected labels below ${outputSize} for "${definition.name}" but the data has ${classes - 1}.`,
    );
  }
}
