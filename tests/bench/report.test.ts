import { describe, expect, test } from "vitest";
import { axis, chart } from "../../bench/chart.js";
import type { CaseResult, Measurement } from "../../bench/compare.js";
import { judge } from "../../bench/expectations.js";
import { convolutionsOf, largest, layersMarkdown, merge, type Run } from "../../bench/layer-report.js";
import { heading, markdown, type Report, report, type Setup, terminalTable } from "../../bench/report.js";
import { input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";

const setup: Setup = { processor: "A & B <CPU>", threads: 2, rounds: 3, seconds: 1, node: "24.0.0" };

/** What a program did in a slice a round. */
function measurement(
  party: string,
  times: readonly number[],
  speeds: Partial<Measurement["slices"][0]> = {},
): Measurement {
  const slices = times.map((medianMs) => {
    return { medianMs, minMs: medianMs, maxMs: medianMs, steps: 10, setting: "best", ...memory, ...speeds };
  });
  return { party, setting: "best", slices };
}

const memory = { peakMemoryBytes: 90e6, startMemoryBytes: 50e6 };
const speed = { isa: "avx2", gflops: 100, peakGflops: 200 };

const results: CaseResult[] = [
  {
    network: "lenet5",
    mode: "train",
    batch: 64,
    ours: measurement("fovea", [1, 2, 1], speed),
    peers: [measurement("PyTorch", [3, 8, 2.5])],
  },
  {
    network: "lenet5",
    mode: "single",
    batch: 1,
    ours: measurement("fovea", [0.5, 0.5, 0.5], speed),
    peers: [measurement("PyTorch", [1, 1, 1]), measurement("onnxruntime", [0.4, 0.45, 0.4])],
  },
];
const versions = { fovea: "fovea 0.1.0", PyTorch: "torch 2.15.0", onnxruntime: "onnxruntime 1.32.0" };
const full: Report = report(setup, { versions, results });

describe("a report", () => {
  test("holds ratios of rounds, percent of peak and memory", () => {
    const [training] = full.cases;
    expect(training).toMatchObject({ percentOfPeak: 50, gflops: 100 });
    expect(training?.ours.milliseconds).toEqual({ median: 1, min: 1, max: 2 });
    expect(training?.peers[0]?.ratio).toEqual({ median: 3, min: 2.5, max: 4 });
    expect(training?.peers[0]).toMatchObject({ steps: 30, peakMemoryBytes: 90e6, grownMemoryBytes: 40e6 });
    expect(full).toMatchObject({ isa: "avx2", peakGflops: 200, threads: 2 });
  });

  test("says in one line what the numbers hold for", () => {
    expect(heading(full)).toBe(
      "A & B <CPU>, 2 threads, fovea on avx2: FMA peak 200 GFLOP/s. Node 24.0.0, fovea 0.1.0, torch 2.15.0, " +
        "onnxruntime 1.32.0. 3 rounds of 1 s.",
    );
    expect(heading({ ...full, peerIsa: "avx2" })).toContain("The others are held to avx2");
  });

  test("is a Markdown table with a column of times and one of ratios a peer, empty where one took no part", () => {
    const [, , titles, rule, ...rows] = markdown(full).trimEnd().split("\n");
    expect(titles).toBe(
      "| network | step | fovea ms | % of peak | PyTorch ms | ratio | onnxruntime ms | ratio | MB: fovea / PyTorch / onnxruntime |",
    );
    expect(rule?.split("|").length).toBe(titles?.split("|").length);
    expect(rows).toEqual([
      "| lenet5 (64) | training step | 1.00 | 50 | 3.00 | 3.00 (2.50-4.00) |  |  | 90 (+40) / 90 (+40) / - |",
      "| lenet5 (1) | inference, one image | 0.500 | 50 | 1.00 | 2.00 | 0.400 | 0.80 (0.80-0.90) | " +
        "90 (+40) / 90 (+40) / 90 (+40) |",
    ]);
  });

  test("is the same table in a terminal", () => {
    expect(terminalTable(full)).toMatch(/lenet5 \(64\) +training step +1\.00 +50 +3\.00 +3\.00 \(2\.50-4\.00\)/);
  });

  test("has no columns of peers where there were none", () => {
    const alone = report(setup, { versions: {}, results: results.map((one) => ({ ...one, peers: [] })) });
    expect(markdown(alone)).toContain("| network | step | fovea ms | % of peak | MB: fovea |");
  });
});

describe("a chart", () => {
  const bars = (svg: string): { kind: string; x: number; width: number }[] =>
    [...svg.matchAll(/<rect class="(peer\d)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="10"/g)].map(
      ([, kind = "", x, width]) => ({ kind, x: Number(x), width: Number(width) }),
    );

  test("has a bar a ratio, to the left of the line of equal speed where fovea is slower", () => {
    const svg = chart(full);
    const equal = Number(/class="equal" x1="([\d.]+)"/.exec(svg)?.[1]);
    const [training, single, slower] = bars(svg);
    expect(bars(svg)).toHaveLength(3);
    expect(training).toMatchObject({ kind: "peer0", x: equal });
    expect(training?.width).toBeCloseTo((single?.width ?? 0) * Math.log2(3), 0);
    expect(slower?.kind).toBe("peer1");
    expect((slower?.x ?? 0) + (slower?.width ?? 0)).toBeCloseTo(equal, 0);
  });

  test("is well-formed: every text is escaped, every element closed", () => {
    const svg = chart(full);
    expect(svg).toContain("A &amp; B &lt;CPU&gt;");
    const open = [...svg.matchAll(/<(\w+)[^>]*?(\/?)>/g)].filter(([, , closed]) => closed === "").length;
    expect([...svg.matchAll(/<\/\w+>/g)]).toHaveLength(open);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });

  test("has an axis of powers of two around its values and one", () => {
    expect(axis([1.2, 3])).toEqual([1, 2, 4]);
    expect(axis([0.7, 11])).toEqual([0.5, 1, 2, 4, 8, 16]);
    expect(axis([])).toEqual([1, 2]);
  });
});

describe("counted instructions", () => {
  const expected = { compiler: "rustc 1.90.0", counts: { conv: 1000, pool: 200 } };

  test("pass within three in a hundred, both ways", () => {
    expect(judge(expected, "rustc 1.90.0", { conv: 1029, pool: 195 }).problems).toEqual([]);
  });

  test("fail beyond, slower or faster, with the numbers", () => {
    expect(judge(expected, "rustc 1.90.0", { conv: 1031, pool: 180 }).problems).toEqual([
      "conv: expected 1,000 instructions but counted 1,031 (+3.1 %); it has become slower.",
      "pool: expected 200 instructions but counted 180 (-10.0 %); it has become faster, keep it with --update.",
    ]);
  });

  test("may differ by a tenth where another compiler made the code", () => {
    expect(judge(expected, "rustc 1.91.0", { conv: 1090, pool: 185 }).problems).toEqual([]);
    expect(judge(expected, "rustc 1.91.0", { conv: 1110, pool: 200 }).problems).toHaveLength(1);
  });

  test("fail where a step has no expectation, or an expectation no step", () => {
    expect(judge(expected, "rustc 1.90.0", { conv: 1000, dense: 5 }).problems).toEqual([
      expect.stringContaining("pool: there is no such step any more"),
      expect.stringContaining("dense: there is no expectation"),
    ]);
  });
});

describe("the report on layers", () => {
  const definition = model(input(8, 8, 4), (x) =>
    x.conv(4, 3, { padding: 1, name: "a" }).conv(4, 3, { padding: 1, name: "b" }).conv(8, 3, { stride: 2, name: "c" }),
  ).definition;
  const run: Run = { isa: "avx2", threads: 1 };
  const row = (instruction: string, name: string, percentOfPeak: number, algorithm = "implicit GEMM") => {
    return {
      index: 0,
      instruction,
      name,
      algorithm,
      input: [],
      output: [],
      flops: 1,
      bytes: 1,
      candidates: [],
      held: false,
      milliseconds: 1,
      percentOfPeak,
    };
  };
  const rows = [row("conv", "a", 50), row("conv", "b", 70), row("convBackwardInput", "b", 200, "Winograd F(4x4, 3x3)")];
  const { milliseconds: _, percentOfPeak: __, ...untimed } = row("relu", "a", 0);
  const plan = { model: "m", mode: "train", batch: 2, ...run, arenaBytes: 0, parameterBytes: 0, flops: 0 };
  const reports = merge(
    convolutionsOf(definition, { name: "m", batch: 2 }, run, { ...plan, rows: [...rows, untimed] }),
  );

  test("puts equal convolutions together", () => {
    expect(reports.map(({ convolution }) => convolution)).toEqual([
      "3x3 4>4 @8x8 p1, batch 2",
      "3x3 s2 4>8 @8x8 valid, batch 2",
    ]);
    expect(reports[0]?.passes.map(({ pass }) => pass)).toEqual(["forward", "forward", "inputGradient"]);
  });

  test("leaves out what takes less than a part of a network's time", () => {
    expect(largest(reports, 0)).toEqual(reports.slice(0, 1));
    const more = [row("conv", "c", 10), { ...row("conv", "a", 10), milliseconds: 9 }];
    const both = convolutionsOf(definition, { name: "m", batch: 2 }, run, { ...plan, rows: more });
    expect(largest(merge(both), 10)).toHaveLength(2);
    expect(largest(merge(both), 11).map(({ passes }) => passes[0]?.milliseconds)).toEqual([9]);
  });

  test("is a table of the passes, the algorithms marked, those that do not run left open", () => {
    const lines = layersMarkdown(reports, [run]).trimEnd().split("\n");
    expect(lines.slice(2)).toEqual([
      "| convolution | avx2, 1 T |",
      "| --- | ---: |",
      "| 3x3 4>4 @8x8 p1, batch 2 | 60 / 200w / - |",
      "| 3x3 s2 4>8 @8x8 valid, batch 2 | - / - / - |",
    ]);
  });
});
