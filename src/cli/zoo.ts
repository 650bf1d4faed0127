import type { Command } from "commander";
import { summarize } from "../report/summary.js";
import { plainTable } from "../report/table.js";
import { architectures } from "../zoo/index.js";
import { jsonOption, type SharedOptions } from "./options.js";
import { printResult, whole } from "./output.js";

export function addZoo(program: Command): void {
  program
    .command("zoo")
    .description("List the architectures that can be named as MODEL.")
    .addOption(jsonOption())
    .action(({ json }: SharedOptions) => printResult(json, entries(), format));
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

function entries(): Entry[] {
  return architectures.map(({ name, year, paper, create }) => {
    const { input, classes, parameters, multAdds } = summarize(create().definition);
    return { name, year, paper, input, classes, parameters, multAdds };
  });
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
