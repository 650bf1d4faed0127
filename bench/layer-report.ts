/** What the plans of training steps say about each distinct convolution. */

import type { Plan } from "../src/cli/explain.js";
import { type ConvDefinition, describe, type GraphDefinition } from "../src/model/definition.js";
import { plainTable } from "../src/report/table.js";
import type { Network } from "./cases.js";
import { spread } from "./statistics.js";

/** How a plan was run. */
export interface Run {
  readonly isa: string;
  readonly threads: number;
}

export const passes = ["forward", "inputGradient", "weightGradient"] as const;
export type Pass = (typeof passes)[number];

/** One pass of a convolution in one run. */
export interface PassReport extends Run {
  readonly network: string;
  readonly pass: Pass;
  readonly algorithm: string;
  /** FLOP/s over the FMA peak of the threads; above 100 where an algorithm saves multiplications. */
  readonly percentOfPeak: number;
  readonly milliseconds: number;
}

export interface LayerReport {
  /** `3x3 s2 64>128 @56x56, batch 16`. */
  readonly convolution: string;
  readonly networks: readonly string[];
  readonly passes: readonly PassReport[];
}

/** Every convolution of a network, with the passes that its plan runs. */
export function convolutionsOf(
  definition: GraphDefinition,
  { name: network, batch }: Network,
  run: Run,
  plan: Plan,
): LayerReport[] {
  const reports = new Map<string, LayerReport & { passes: PassReport[] }>();
  for (const { node, input } of describe(definition)) {
    if (node.op !== "conv") continue;
    const convolution = `${title(node, input)}, batch ${batch}`;
    reports.set(node.name, { convolution, networks: [network], passes: [] });
  }
  for (const { instruction, name, algorithm, percentOfPeak, milliseconds } of plan.rows) {
    if (percentOfPeak === undefined || milliseconds === undefined) continue;
    const pass = passOf(instruction);
    reports.get(name)?.passes.push({ ...run, network, pass, algorithm, percentOfPeak, milliseconds });
  }
  return [...reports.values()];
}

function passOf(instruction: string): Pass {
  if (instruction.endsWith("BackwardInput")) return "inputGradient";
  return instruction.endsWith("BackwardWeight") ? "weightGradient" : "forward";
}

/** What makes a convolution distinct. */
function title(
  { filters, kernel, stride, padding, dilation, groups }: ConvDefinition,
  input: readonly number[],
): string {
  const [height, width, channels] = input;
  const strides = stride.join("x");
  return [
    kernel.join("x"),
    ...(strides === "1x1" ? [] : [`s${stride[0] === stride[1] ? stride[0] : strides}`]),
    ...(dilation.join("x") === "1x1" ? [] : [`d${dilation.join("x")}`]),
    ...(groups === 1 ? [] : [`g${groups}`]),
    `${channels}>${filters}`,
    `@${height}x${width}`,
    typeof padding === "string" ? padding : `p${new Set(padding).size === 1 ? padding[0] : padding.join(",")}`,
  ].join(" ");
}

/** One report a distinct convolution, in the order of their first networks. */
export function merge(reports: readonly LayerReport[]): LayerReport[] {
  const merged = new Map<string, LayerReport>();
  for (const { convolution, networks, passes } of reports) {
    const before = merged.get(convolution);
    merged.set(convolution, {
      convolution,
      networks: [...new Set([...(before?.networks ?? []), ...networks])],
      passes: [...(before?.passes ?? []), ...passes],
    });
  }
  return [...merged.values()];
}

/** The convolutions that take at least `percent` of the time of all convolutions of a network, in one of its runs. */
export function largest(reports: readonly LayerReport[], percent: number): LayerReport[] {
  const key = ({ network, isa, threads }: PassReport): string => `${network} ${isa} ${threads}`;
  const times = (passes: readonly PassReport[]): Map<string, number> => {
    const sums = new Map<string, number>();
    for (const pass of passes) sums.set(key(pass), (sums.get(key(pass)) ?? 0) + pass.milliseconds);
    return sums;
  };
  const all = times(reports.flatMap(({ passes }) => passes));
  return reports.filter(({ passes }) =>
    [...times(passes)].some(([run, milliseconds]) => 100 * milliseconds >= percent * (all.get(run) ?? 0)),
  );
}

export function layersTable(reports: readonly LayerReport[], runs: readonly Run[]): string {
  const columns = titles(runs).map((title, at) => ({ title, align: at === 0 ? "left" : "right" }) as const);
  return `${legend}\n\n${plainTable(columns, rows(reports, runs))}`;
}

export function layersMarkdown(reports: readonly LayerReport[], runs: readonly Run[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const head = titles(runs);
  const rule = head.map((_, at) => (at === 0 ? "---" : "---:"));
  return `${legend}\n\n${[head, rule, ...rows(reports, runs)].map(line).join("\n")}\n`;
}

const legend =
  "Percent of FMA peak: forward / input gradient / weight gradient. Computed directly, or w by Winograd's algorithm, " +
  "s by scattering, p from packed copies.";

const marks: readonly (readonly [name: RegExp, mark: string])[] = [
  [/winograd/i, "w"],
  [/scatter/, "s"],
  [/packed/, "p"],
];

function titles(runs: readonly Run[]): string[] {
  return ["convolution", ...runs.map(({ isa, threads }) => `${isa}, ${threads} T`)];
}

function rows(reports: readonly LayerReport[], runs: readonly Run[]): string[][] {
  return reports.map((report) => [
    report.convolution,
    ...runs.map((run) => passes.map((pass) => cell(report, run, pass)).join(" / ")),
  ]);
}

/** The median of the layers and networks that have the convolution. */
function cell(report: LayerReport, { isa, threads }: Run, pass: Pass): string {
  const found = report.passes.filter((one) => one.isa === isa && one.threads === threads && one.pass === pass);
  if (found.length === 0) return "-";
  const mark = marks.find(([name]) => found.some(({ algorithm }) => name.test(algorithm)))?.[1] ?? "";
  return `${spread(found.map(({ percentOfPeak }) => percentOfPeak)).median.toFixed(0)}${mark}`;
}
