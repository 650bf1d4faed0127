#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { addBench } from "./bench.js";
import { addDoctor } from "./doctor.js";
import { addEval } from "./eval.js";
import { addExplain } from "./explain.js";
import { addExport } from "./export.js";
import { explainError, printError } from "./output.js";
import { addPredict } from "./predict.js";
import { addRun } from "./run.js";
import { addSummary } from "./summary.js";
import { addTrain } from "./train.js";
import { addView } from "./view.js";
import { addZoo } from "./zoo.js";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

const program = new Command("fovea")
  .description("Convolutional networks for Node.js: train, evaluate, run and look into them.")
  .version(version)
  .configureHelp({ showGlobalOptions: false })
  .configureOutput({ outputError: (text) => printError(text.replace(/^error: /, "")) })
  .exitOverride();

const commands = [addTrain, addEval, addPredict, addRun, addExport, addView, addSummary, addZoo, addExplain, addBench];
for (const add of [...commands, addDoctor]) add(program);

// Whoever reads may stop reading, as `head` does.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  if (process.argv.length <= 2) program.help({ error: true });
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Help and version come this way too, with exit code 0; everything else is what commander could not understand.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    const { message, exitCode } = explainError(error);
    printError(message);
    process.exitCode = exitCode;
  }
}
