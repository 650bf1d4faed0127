import { type Command, Option } from "commander";
import { Model } from "../model/model.js";
import { plainTable } from "../report/table.js";
import { modelHelp, resolveModel } from "./model-argument.js";
import { batchOption, jsonOption, modeOption, precisionOption, type SharedOptions, threadsOption } from "./options.js";
import { count, percent, printResult } from "./output.js";

interface ExplainOptions extends SharedOptions {
  readonly mode: string;
  readonly batch: number;
  readonly run?: boolean;
}

/** A plan as the engine describes it; times only after a run. */
export interface Plan {
  readonly model: string;
  readonly mode: string;
  readonly batch: number;
  readonly threads: number;
  readonly isa: string;
  readonly arenaBytes: number;
  readonly parameterBytes: number;
  readonly flops: number;
  readonly peakGflops?: number;
  readonly milliseconds?: number;
  readonly rows: readonly {
    readonly index: number;
    readonly instruction: string;
    readonly name: string;
    readonly algorithm: string;
    readonly input: readonly number[];
    readonly output: readonly number[];
    readonly flops: number;
    readonly bytes: number;
    readonly milliseconds?: number;
    readonly percentOfPeak?: number;
  }[];
}

export function addExplain(program: Command): void {
  program
    .command("explain")
    .description("Show the plan of a step: its instructions, their algorithms and, with --run, their times.")
    .argument("<model>", modelHelp)
    .addOption(modeOption())
    .addOption(batchOption(64))
    .addOption(new Option("--run", "run it, and show milliseconds and percent of peak"))
    .addOption(threadsOption())
    .addOption(precisionOption())
    .addOption(jsonOption())
    .action(explain);
}

async function explain(text: string, { mode, batch, run = false, json, ...options }: ExplainOptions): Promise<void> {
  const { definition } = await resolveModel(text);
  const model = new Model(definition, options);
  try {
    const plan: Plan = JSON.parse(await model.session.explain(mode, batch, run));
    printResult(json, plan, (plan) => format(plan, run));
  } finally {
    await model.close();
  }
}

function format(plan: Plan, run: boolean): string {
  const { model, mode, batch, threads, isa, arenaBytes, parameterBytes, flops, peakGflops, milliseconds, rows } = plan;
  const columns = [
    { title: "#" },
    { title: "instruction", align: "left" },
    { title: "layer", align: "left" },
    { title: "algorithm", align: "left" },
    { title: "input" },
    { title: "output" },
    { title: "MFLOP" },
    { title: "MB" },
    ...(run ? [{ title: "ms" }, { title: "% of peak" }] : []),
  ] as const;
  const cells = rows.map((row) => [
    String(row.index),
    row.instruction,
    row.name,
    row.algorithm,
    row.input.join(" x "),
    row.output.join(" x "),
    row.flops === 0 ? "" : (row.flops / 1e6).toFixed(2),
    (row.bytes / 1e6).toFixed(2),
    ...(run ? [row.milliseconds?.toFixed(4) ?? "", row.percentOfPeak?.toFixed(0) ?? ""] : []),
  ]);
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;
  return [
    `${model}, ${mode}, batch ${batch}, ${count(threads, "thread")}, ${isa}`,
    plainTable(columns, cells),
    `arena ${megabytes(arenaBytes)}, parameters ${megabytes(parameterBytes)}, ${(flops / 1e6).toFixed(1)} MFLOP a step`,
    ...(milliseconds !== undefined && peakGflops !== undefined
      ? [`${milliseconds.toFixed(3)} ms in all, ${runOf(flops, milliseconds, peakGflops)}`]
      : []),
  ].join("\n");
}

function runOf(flops: number, milliseconds: number, peakGflops: number): string {
  const gflops = flops / milliseconds / 1e6;
  return `${gflops.toFixed(1)} GFLOP/s, ${percent(gflops / peakGflops, 0)} of a peak of ${peakGflops.toFixed(0)}`;
}
