import type { Command } from "commander";
import { summarize } from "../report/summary.js";
import { plainTable } from "../report/table.js";
import { type Architecture, architectures } from "../zoo/index.js";
import { jsonOption, type SharedOptions } from "./options.js";
import { printResult, UsageError, whole } from "./output.js";

export function addZoo(program: Command): void {
  program
    .command("zoo")
    .description("List the architectures that can be named as MODEL, or only those named here, with what they cost.")
    .argument("[names...]", "such as conv-mobilenet mobilenet")
    .addOption(jsonOption())
    .action((names: readonly string[], { json }: SharedOptions) => {
      const chosen = names.length === 0 ? architectures : names.map(named);
      printResult(json, chosen.map(entry), format);
    });
}

interface Entry {
  readonly name: string;
  readonly year: number;
  readonly paper: string;
  readonly input: readonly number[];
  readonly classes: number;
  readonly parameters: number;
  readonly multAdds: number;
}

function named(name: string): Architecture {
  const found = architectures.find((each) => each.name === name);
  if (found !== undefined) return found;
  throw new UsageError(`Expected one of ${architectures.map(({ name }) => name).join(", ")} but received "${name}".`);
}

function entry({ name, year, paper, create }: Architecture): Entry {
  const { input, classes, parameters, multAdds } = summarize(create().definition);
  return { name, year, paper, input, classes, parameters, multAdds };
}

function format(entries: readonly Entry[]): string {
  const columns = [
    { title: "name", align: "left" },
    { title: "year" },
    { title: "input" },
    { title: "classes" },
    { title: "parameters" },
    { title: "mult-adds" },
  ] as const;
  const rows = entries.map(({ name, year, input, classes, parameters, multAdds }) => [
    name,
    String(year),
    input.join(" x "),
    whole(classes),
    whole(parameters),
    whole(multAdds),
  ]);
  return plainTable(columns, rows);
}
