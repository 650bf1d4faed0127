/** What the counts of instructions should be, and what is said when they are not. */

import { plainTable } from "../src/report/table.js";

/** The content of instructions.json. */
export interface Expectations {
  /** The compiler that made the code. */
  readonly compiler: string;
  /** Instructions of a step. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface Verdict {
  readonly table: string;
  /** A sentence for each count that is out of bounds or unknown. */
  readonly problems: readonly string[];
}

/** How far a count may be off, as a share: another compiler makes other code. */
export function toleranceFor({ compiler }: Expectations, used: string): number {
  return compiler === used ? 0.03 : 0.1;
}

/** Holds counts against expectations. */
export function judge(expected: Expectations, compiler: string, counts: Expectations["counts"]): Verdict {
  const tolerance = toleranceFor(expected, compiler);
  const names = [...new Set([...Object.keys(expected.counts), ...Object.keys(counts)])];
  const lines = names.map((name) => {
    const [before, now] = [expected.counts[name], counts[name]];
    return { name, before, now, change: before && now ? now / before - 1 : Number.NaN };
  });
  const rows = lines.map(({ name, before, now, change }) => [name, whole(before), whole(now), percent(change)]);
  const columns = [
    { title: "step", align: "left" },
    { title: "expected" },
    { title: "counted" },
    { title: "" },
  ] as const;
  const problems = lines.flatMap(({ name, before, now, change }) => {
    if (before === undefined) return [`${name}: there is no expectation; write it down with --update.`];
    if (now === undefined) return [`${name}: there is no such step any more; forget it with --update.`];
    const detail = `${whole(before)} instructions but counted ${whole(now)} (${percent(change)})`;
    if (change > tolerance) return [`${name}: expected ${detail}; it has become slower.`];
    if (change < -tolerance) return [`${name}: expected ${detail}; it has become faster, keep it with --update.`];
    return [];
  });
  return { table: plainTable(columns, rows), problems };
}

function whole(count: number | undefined): string {
  return count?.toLocaleString("en-US") ?? "-";
}

function percent(share: number): string {
  return Number.isNaN(share) ? "" : `${share < 0 ? "" : "+"}${(100 * share).toFixed(1)} %`;
}
