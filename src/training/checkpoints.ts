/** Files that training leaves behind besides its last checkpoint. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { makeDirectory } from "./files.js";
import type { FitCallbacks } from "./fit-options.js";
import { sessionOf, type Trained } from "./trained.js";

/**
 * Writes the weights of the best epoch so far, whenever there is a new one.
 *
 * @param model the model that is trained
 * @param path the file; what `fit`'s `monitor` says is the best
 * @param options `averaged` (false): the averages that `ema` makes, which are what `fit` judges then
 * @example
 * ```ts
 * import { saveBest, zoo, type FitOptions } from "fovea";
 *
 * const lenet = zoo.lenet5();
 * const options: FitOptions = { epochs: 20, callbacks: saveBest(lenet, "best.safetensors") };
 * console.log(options.epochs); // 20
 * ```
 */
export function saveBest(
  model: Trained,
  path: string,
  { averaged = false }: { readonly averaged?: boolean } = {},
): FitCallbacks {
  const session = sessionOf(model);
  return {
    async onEpoch({ best }) {
      if (best) await session.saveWeights(path, { averaged });
    },
  };
}

/**
 * Writes a checkpoint, `checkpoint-STEP.safetensors`, at the end of every epoch, every `saveEvery` steps and at the end.
 * A training that begins, or goes on from a checkpoint, first drops those beyond it.
 *
 * @param model the model that is trained
 * @param directory where they go; made with its parents if it is not there
 * @param options `last`: how many of them are kept (all)
 */
export function saveCheckpoints(
  model: Trained,
  directory: string,
  { last = Number.POSITIVE_INFINITY }: { readonly last?: number } = {},
): FitCallbacks {
  const session = sessionOf(model);
  const pathOf = (step: number): string => join(directory, `checkpoint-${step}.safetensors`);
  const drop = async (choose: (steps: readonly number[]) => readonly number[]): Promise<void> => {
    const names = (await readdir(directory)).map((file) => /^checkpoint-(\d+)\.safetensors$/.exec(file)?.[1]);
    const steps = names.flatMap((digits) => (digits === undefined ? [] : Number(digits)));
    await Promise.all(choose(steps).map((step) => rm(pathOf(step), { force: true })));
  };
  return {
    async onStart(_, { step: begun }) {
      await makeDirectory(directory);
      await drop((steps) => steps.filter((step) => step > begun));
    },
    async onSave(state) {
      await session.saveCheckpoint(pathOf(state.step), JSON.stringify(state));
      await drop((steps) => steps.toSorted((a, b) => b - a).slice(last));
    },
  };
}
