import { once } from "node:events";
import { type Command, Option } from "commander";
import { serveView } from "../report/view-server.js";
import { RunDirectory } from "../training/run-directory.js";
import { portNumber } from "./options.js";

export function addView(program: Command): void {
  program
    .command("view")
    .description("Serve the page of a run on 127.0.0.1, up to date while it is trained, until Ctrl-C.")
    .argument("<run>", "run directory")
    .addOption(new Option("--port <n>", "where to listen; 0 for a free one").argParser(portNumber).default(0))
    .action(view);
}

async function view(path: string, { port }: { readonly port: number }): Promise<void> {
  const run = await RunDirectory.open(path);
  const { url, close } = await serveView(run, port);
  process.stdout.write(`${path}: ${url}\n`);
  await Promise.race(["SIGINT", "SIGTERM", "SIGHUP"].map((signal) => once(process, signal)));
  await close();
}
