import type { FitCallbacks } from "./fit-options.js";

/** Several callbacks as one: each is awaited before the next is called, and the first that throws ends it. */
export function combined(callbacks: FitCallbacks | readonly FitCallbacks[] = []): Required<FitCallbacks> {
  const all: readonly FitCallbacks[] = Array.isArray(callbacks) ? callbacks : [callbacks];
  return {
    async onStart(length, state) {
      for (const each of all) await each.onStart?.(length, state);
    },
    async onSteps(steps) {
      for (const each of all) await each.onSteps?.(steps);
    },
    async onEpoch(epoch, evaluation) {
      for (const each of all) await each.onEpoch?.(epoch, evaluation);
    },
    async onSave(state) {
      for (const each of all) await each.onSave?.(state);
    },
  };
}
