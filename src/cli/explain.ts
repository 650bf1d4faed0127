import { type Command, Option } from "commander";
import { Model } from "../model/model.js";
import { plainTable } from "../report/table.js";
import { modelHelp, resolveModel } from "./model-argument.js";
import {
  algorithmOption,
  batchOption,
  jsonOption,
  modeOption,
  precisionOption,
  type SharedOptions,
  threadsOption,
} from "./options.js";
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
    /** The ways to compute a convolution's pass, and the operations in whose time at one thread's peak each should be done. */
    readonly candidates: readonly {
      readonly algorithm: string;
      readonly cost: number;
      readonly chosen: boolean;
    }[];
    /** Whether the way was asked for. */
    readonly held: boolean;
    readonly milliseconds?: number;
    readonly predictedMilliseconds?: number;
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
    .addOption(algorithmOption())
    .addOption(jsonOption())
    .action(explain);
}

async function explain(
  text: string,
  { mode, batch, run = false, json, algorithm: algorithms, ...options }: ExplainOptions,
): Promise<void> {
  const { definition } = await resolveModel(text);
  const model = new Model(definition, { ...options, algorithms });
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
    { title: "costs, MFLOP", align: "left" },
    { title: "input" },
    { title: "output" },
    { title: "MFLOP" },
    { title: "MB" },
    ...(run ? [{ title: "ms" }, { title: "predicted" }, { title: "% of peak" }] : []),
  ] as const;
  const cells = rows.map((row) => [
    String(row.index),
    row.instruction,
    row.name,
    row.algorithm,
    costs(row.candidates),
    row.input.join(" x "),
    row.output.join(" x "),
    row.flops === 0 ? "" : (row.flops / 1e6).toFixed(2),
    (row.bytes / 1e6).toFixed(2),
    ...(run ? [fixed(row.milliseconds, 4), fixed(row.predictedMilliseconds, 4), fixed(row.percentOfPeak, 0)] : []),
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

/** `direct 1890.2, *winograd 812.0`: what each way should cost, the chosen one with a star; nothing without a choice. */
function costs(candidates: Plan["rows"][number]["candidates"]): string {
  const cost = ({ algorithm, cost, chosen }: (typeof candidates)[number]): string =>
    `${chosen ? "*" : ""}${algorithm} ${(cost / 1e6).toFixed(1)}`;
  return candidates.length > 1 ? candidates.map(cost).join(", ") : "";
}

const fixed = (value: number | undefined, digits: number): string => value?.toFixed(digits) ?? "";

function runOf(flops: number, milliseconds: number, peakGflops: number): string {
  const gflops = flops / milliseconds / 1e6;
  return `${gflops.toFixed(1)} GFLOP/s, ${percent(gflops / peakGflops, 0)} of a peak of ${peakGflops.toFixed(0)}`;
}
