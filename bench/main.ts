/** `npm run bench`: fovea, PyTorch and onnxruntime in turns, on every network of the benchmark. */

import { writeFileSync } from "node:fs";
import { constants, cpus } from "node:os";
import { Command, Option } from "commander";
import { positiveInteger, positiveNumber } from "../src/cli/options.js";
import { printError, printNote } from "../src/cli/output.js";
import { type Case, casesOf, type Mode, modes, modeTitles, type Network } from "./cases.js";
import { chart } from "./chart.js";
import { compare, type Listener } from "./compare.js";
import { isaOption, knownNetworks, networksOption, someOf, threadsOption } from "./options.js";
import { defaultPython, fovea, installCommand, missingPython, peerNames, peers } from "./peers.js";
import { caseLine, caseReport, heading, markdown, report, terminalTable } from "./report.js";

interface Options {
  readonly networks: readonly Network[];
  readonly modes: readonly Mode[];
  readonly peers: readonly string[];
  readonly rounds: number;
  readonly seconds: number;
  readonly threads: number;
  readonly isa?: string;
  readonly peerIsa?: "avx2";
  readonly python: string;
  readonly quick?: boolean;
  readonly json?: string;
  readonly markdown?: string;
  readonly svg?: string;
}

const program = new Command("bench")
  .description("Time fovea, PyTorch and onnxruntime in turns on the networks of the benchmark.")
  .addOption(networksOption())
  .addOption(someOf("--modes <names>", modes, (mode) => mode))
  .addOption(someOf("--peers <names>", peerNames, (name) => name))
  .addOption(new Option("--rounds <n>", "slices of each program").argParser(positiveInteger).default(3))
  .addOption(
    new Option("--seconds <s>", "length of a slice; three steps are the least").argParser(positiveNumber).default(3),
  )
  .addOption(threadsOption("of every program"))
  .addOption(isaOption("fovea's instruction set (default: its best)"))
  .addOption(new Option("--peer-isa <set>", "hold PyTorch and onnxruntime to it").choices(["avx2"]))
  .addOption(new Option("--python <path>", "Python with the peers").env("FOVEA_BENCH_PYTHON").default(defaultPython))
  .addOption(new Option("--quick", "a look, no measurement: one round of 0.3 s"))
  .addOption(new Option("--json <file>", "write everything that was measured"))
  .addOption(new Option("--markdown <file>", "write the table as Markdown"))
  .addOption(new Option("--svg <file>", "write the ratios as a chart"))
  .addHelpText("after", `\nThe peers install by:\n  ${installCommand}`)
  .action(bench);

async function bench(options: Options): Promise<void> {
  const { threads, isa, peerIsa, python, quick = false } = options;
  const { rounds, seconds } = quick ? { rounds: 1, seconds: 0.3 } : options;
  const missing = options.peers.length > 0 ? missingPython(python) : undefined;
  if (missing) printNote(missing);
  const wanted = missing ? [] : peers(python, peerIsa).filter(({ name }) => options.peers.includes(name));
  const cases = casesOf(knownNetworks(options.networks), options.modes);
  const comparison = await compare({ ours: fovea(isa), peers: wanted, cases, threads, rounds, seconds }, progress);
  if (comparison.results.length === 0) {
    process.exitCode = 1;
    return;
  }
  const processor = cpus()[0]?.model.trim() ?? process.arch;
  const result = report({ processor, threads, rounds, seconds, node: process.versions.node, peerIsa }, comparison);
  if (options.json) writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`);
  if (options.markdown) writeFileSync(options.markdown, markdown(result));
  if (options.svg) writeFileSync(options.svg, chart(result));
  process.stdout.write(`${heading(result)}\n\n${terminalTable(result)}\n`);
}

const progress: Listener = {
  absent: (peer, reason) =>
    printNote(`${peer.name} is left out (${reason.replace(/\.$/, "")}). The peers install by: ${installCommand}`),
  failed: (one, reason) => {
    printError(`${caseName(one)}: ${reason}`);
    process.exitCode = 1;
  },
  begin: (one) => process.stderr.write(`${caseName(one)} ...\n`),
  done: (result) => process.stderr.write(`  ${caseLine(caseReport(result))}\n`),
};

function caseName({ network, mode, batch }: Case): string {
  return `${network} (${batch}), ${modeTitles[mode]}`;
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => process.exit(128 + constants.signals[signal])); // the programs end with this one
}
await program.parseAsync();
