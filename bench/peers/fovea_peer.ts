/**
 * fovea as a party of the benchmark: protocol.py says what it reads and writes. Besides, it tells the instruction set, its
 * FLOP/s, and the FMA peak of the same threads, measured beside the steps.
 *
 * Steps run one after another on the session's own thread, as those of `fit` do.
 */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { peakMemoryBytes } from "../../src/cli/output.js";
import { architecture } from "../../src/zoo/index.js";
import type { Reply, Request } from "../party.js";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

const startMemoryBytes = peakMemoryBytes();

/** With a network of its own for every request, so that nothing of an earlier one counts in the memory. */
async function measure({ model: name, mode, batch, threads, seconds }: Request): Promise<Reply> {
  const model = architecture(name).create({ threads });
  try {
    const { isa } = model.session;
    const { medianMs, minMs, maxMs, steps, gflops, peakGflops } = await model.session.benchmark(mode, batch, seconds);
    const times = { medianMs, minMs, maxMs, steps };
    const memory = { peakMemoryBytes: peakMemoryBytes(), startMemoryBytes };
    return { ...times, setting: "fast", ...memory, isa, gflops, peakGflops };
  } finally {
    await model.close();
  }
}

const write = (line: object): boolean => process.stdout.write(`${JSON.stringify(line)}\n`);

write({ ready: `fovea ${version}` });
for await (const line of createInterface({ input: process.stdin })) {
  try {
    write(await measure(JSON.parse(line)));
  } catch (error) {
    write({ error: error instanceof Error ? error.message : String(error) });
  }
}
