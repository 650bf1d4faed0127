import { AbortHandle } from "../native.js";

/** Runs a native command that a signal stops, and nothing else with it. */
export async function abortable<Result>(
  signal: AbortSignal | undefined,
  command: (handle: AbortHandle) => Promise<Result>,
): Promise<Result> {
  const handle = new AbortHandle();
  const abort = (): void => handle.abort();
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  try {
    return await command(handle);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}
