/**
 * `npm run bench:layers`: percent of the FMA peak for every distinct convolution of the networks, in the plan of a training
 * step: forward, input gradient, weight gradient; on each instruction set, on one thread and on several.
 *
 * Times are those of `fovea explain --run`, a process for each plan, the peak measured in the same process.
 */

import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Command, InvalidArgumentError, Option } from "commander";
import type { Plan } from "../src/cli/explain.js";
import { printError } from "../src/cli/output.js";
import { doctor } from "../src/native.js";
import { architecture } from "../src/zoo/index.js";
import type { Network } from "./cases.js";
import {
  convolutionsOf,
  type LayerReport,
  largest,
  layersMarkdown,
  layersTable,
  merge,
  type Run,
} from "./layer-report.js";
import { isaOption, knownNetworks, networksOption, threadsOption } from "./options.js";

interface Options {
  readonly networks: readonly Network[];
  readonly isa?: string;
  readonly threads: number;
  readonly json?: string;
  readonly markdown?: string;
  readonly with?: readonly string[];
  readonly share: number;
}

const commandLine = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));

const program = new Command("bench:layers")
  .description("Show how much of the FMA peak each convolution of the networks reaches in training.")
  .addOption(networksOption())
  .addOption(isaOption("one instruction set (default: all of this machine but scalar)"))
  .addOption(threadsOption("threads, measured besides one"))
  .addOption(new Option("--json <file>", "write what was measured"))
  .addOption(new Option("--markdown <file>", "write the table as Markdown"))
  .addOption(new Option("--with <file...>", "show what earlier runs wrote as JSON in the same table"))
  .addOption(
    new Option("--share <percent>", "show only convolutions that take this part of the time of a network's")
      .argParser(percent)
      .default(0),
  )
  .action(layers);

async function layers({ isa, threads, json, markdown, share, ...options }: Options): Promise<void> {
  const available = (await doctor()).isa.available.filter((name) => name !== "scalar");
  const runs: Run[] = [];
  for (const name of isa === undefined ? available : [isa]) {
    for (const count of new Set([1, threads])) runs.push({ isa: name, threads: count });
  }
  const found: LayerReport[] = (options.with ?? []).flatMap((file) => JSON.parse(readFileSync(file, "utf8")));
  for (const network of knownNetworks(options.networks)) {
    for (const run of runs) {
      process.stderr.write(`${network.name} (${network.batch}), ${run.isa}, ${run.threads} T ...\n`);
      try {
        const { definition } = architecture(network.name).create();
        found.push(...convolutionsOf(definition, network, run, await explain(network, run)));
      } catch (error) {
        printError(`${network.name}: ${error instanceof Error ? error.message : String(error)}`);
        process.exitCode = 1;
      }
    }
  }
  const report = merge(found);
  if (json) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
  const shown = largest(report, share);
  if (markdown) writeFileSync(markdown, layersMarkdown(shown, runs));
  process.stdout.write(`${layersTable(shown, runs)}\n`);
}

function percent(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && value >= 0 && value <= 100) return value;
  throw new InvalidArgumentError(`Expected a number from 0 to 100 but received "${text}".`);
}

/** The plan of a training step, run in a process of its own. */
async function explain({ name, batch }: Network, { isa, threads }: Run): Promise<Plan> {
  const explain = ["explain", name, "--batch", `${batch}`, "--mode", "train", "--run", "--threads", `${threads}`];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", "tsx", commandLine, ...explain, "--json"],
    {
      env: { ...process.env, FOVEA_ISA: isa },
      maxBuffer: 2 ** 26,
    },
  );
  return JSON.parse(stdout);
}

await program.parseAsync();
