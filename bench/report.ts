/** What a comparison says, as data, as a table for a terminal and as Markdown. */

import { plainTable } from "../src/report/table.js";
import { type Case, modeTitles } from "./cases.js";
import type { CaseResult, Comparison, Measurement } from "./compare.js";
import { ratios, type Spread, spread } from "./statistics.js";

/** Where and how it was measured. */
export interface Setup {
  readonly processor: string;
  readonly threads: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly node: string;
  /** Instruction set that PyTorch was held to; absent: its best. */
  readonly peerIsa?: string | undefined;
}

/** One program in one case. */
export interface PartyReport {
  readonly party: string;
  readonly setting: string;
  /** Over the rounds, each the median of its slice. */
  readonly milliseconds: Spread;
  /** How many times as long as fovea it takes. */
  readonly ratio: Spread;
  readonly steps: number;
  readonly peakMemoryBytes: number;
  /** The part of it that came since the program's start. */
  readonly grownMemoryBytes: number;
}

export interface CaseReport extends Case {
  readonly ours: PartyReport;
  readonly peers: readonly PartyReport[];
  readonly gflops: number;
  readonly percentOfPeak: number;
}

export interface Report extends Setup {
  readonly versions: Comparison["versions"];
  readonly isa: string;
  /** Fused multiply-add peak of the threads together, in 10^9 operations a second: the best that was seen. */
  readonly peakGflops: number;
  readonly cases: readonly CaseReport[];
}

/** Medians, ratios and percent of peak of what was measured. */
export function report(setup: Setup, { versions, results }: Comparison): Report {
  const ours = results.flatMap(({ ours }) => ours.slices);
  return {
    ...setup,
    versions,
    isa: ours[0]?.isa ?? "",
    peakGflops: Math.max(0, ...ours.map(({ peakGflops = 0 }) => peakGflops)),
    cases: results.map(caseReport),
  };
}

/** Medians, ratios and percent of peak of one case. */
export function caseReport({ network, mode, batch, ours, peers }: CaseResult): CaseReport {
  const times = milliseconds(ours);
  const shares = ours.slices.map(({ gflops = 0, peakGflops = Number.NaN }) => (100 * gflops) / peakGflops);
  return {
    network,
    mode,
    batch,
    ours: partyReport(ours, times),
    peers: peers.map((peer) => partyReport(peer, times)),
    gflops: spread(ours.slices.map(({ gflops = 0 }) => gflops)).median,
    percentOfPeak: spread(shares).median,
  };
}

function partyReport(measurement: Measurement, ours: readonly number[]): PartyReport {
  const { party, setting, slices } = measurement;
  return {
    party,
    setting,
    milliseconds: spread(milliseconds(measurement)),
    ratio: ratios(ours, milliseconds(measurement)),
    steps: slices.reduce((sum, { steps }) => sum + steps, 0),
    peakMemoryBytes: Math.max(...slices.map(({ peakMemoryBytes }) => peakMemoryBytes)),
    grownMemoryBytes: Math.max(...slices.map((slice) => slice.peakMemoryBytes - slice.startMemoryBytes)),
  };
}

function milliseconds({ slices }: Measurement): number[] {
  return slices.map(({ medianMs }) => medianMs);
}

/** What the numbers hold for, in one line. */
export function heading(report: Report): string {
  const { processor, threads, isa, peakGflops, rounds, seconds, node, peerIsa } = report;
  const versions = [`Node ${node}`, ...Object.values(report.versions)].join(", ");
  const held = peerIsa === undefined ? "" : ` The others are held to ${peerIsa}.`;
  return (
    `${processor}, ${threads} ${threads === 1 ? "thread" : "threads"}, fovea on ${isa}: FMA peak ` +
    `${peakGflops.toFixed(0)} GFLOP/s. ${versions}. ${rounds} ${rounds === 1 ? "round" : "rounds"} of ${seconds} s.${held}`
  );
}

/** A table for a terminal. */
export function terminalTable(report: Report): string {
  const rows = report.cases.map((one) => cells(one, peersOf(report)));
  const columns = columnTitles(report).map((title, at) => ({ title, align: at < 2 ? "left" : "right" }) as const);
  return plainTable(columns, rows);
}

/** The same table in Markdown. */
export function markdown(report: Report): string {
  const titles = columnTitles(report);
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = titles.map((_, at) => (at < 2 ? "---" : "---:"));
  const rows = report.cases.map((one) => cells(one, peersOf(report)));
  return `${heading(report)}\n\n${[titles, rule, ...rows].map(line).join("\n")}\n`;
}

/** The peers that took part, in the order of their first case. */
export function peersOf({ cases }: Report): string[] {
  return [...new Set(cases.flatMap(({ peers }) => peers.map(({ party }) => party)))];
}

function columnTitles(report: Report): string[] {
  const peers = peersOf(report);
  const times = peers.flatMap((name) => [`${name} ms`, "ratio"]);
  return ["network", "step", "fovea ms", "% of peak", ...times, `MB: ${["fovea", ...peers].join(" / ")}`];
}

function cells({ network, mode, batch, ours, percentOfPeak, peers }: CaseReport, names: readonly string[]): string[] {
  const parties = names.map((name) => peers.find(({ party }) => party === name));
  const memories = [ours, ...parties].map((party) => (party ? memoryText(party) : "-"));
  return [
    `${network} (${batch})`,
    modeTitles[mode],
    time(ours.milliseconds.median),
    percentOfPeak.toFixed(0),
    ...parties.flatMap((party) => (party ? [time(party.milliseconds.median), ratioText(party.ratio)] : ["", ""])),
    memories.join(" / "),
  ];
}

function time(milliseconds: number): string {
  return milliseconds < 100 ? milliseconds.toPrecision(3) : milliseconds.toFixed(0);
}

/** `85 (+33)`: megabytes at most, and how many of them since the program's start. */
function memoryText({ peakMemoryBytes, grownMemoryBytes }: PartyReport): string {
  return `${(peakMemoryBytes / 1e6).toFixed(0)} (+${(grownMemoryBytes / 1e6).toFixed(0)})`;
}

/** A case in one line. */
export function caseLine({ ours, percentOfPeak, peers }: CaseReport): string {
  const theirs = peers.map(
    ({ party, setting, milliseconds, ratio }) =>
      `${party} ${time(milliseconds.median)} ms (${setting}), ${ratioText(ratio)} times as long`,
  );
  const own = `fovea ${time(ours.milliseconds.median)} ms (${percentOfPeak.toFixed(0)} % of peak)`;
  return [own, ...theirs].join("; ");
}

/** `2.41 (2.35-2.44)`: the median of the rounds, and how far they lie apart; `2.41` of a single one. */
export function ratioText({ median, min, max }: Spread): string {
  if (min === max) return median.toFixed(2);
  return `${median.toFixed(2)} (${min.toFixed(2)}-${max.toFixed(2)})`;
}
