/**
 * The static report of a run: one HTML page without scripts or outside resources, with its curves as inline SVG.
 */

/** What the report shows; times in seconds, accuracies from 0 to 1. */
export interface RunReport {
  readonly title: string;
  /** Shown as a list under the title: what was trained, on what, how. */
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly steps: readonly { readonly step: number; readonly loss: number }[];
  readonly epochs: readonly {
    readonly epoch: number;
    /** The step with which it ended. */
    readonly step: number;
    readonly trainLoss: number;
    readonly validationLoss: number | null;
    readonly validationAccuracy: number | null;
    readonly seconds: number;
  }[];
}

interface Point {
  readonly x: number;
  readonly y: number;
}

interface Series {
  readonly name: string;
  /** The CSS class that gives the colour. */
  readonly style: "train" | "validation";
  readonly points: readonly Point[];
  /** Points drawn as dots, besides the line through them. */
  readonly dots?: boolean;
}

const width = 760;
const height = 280;
const margin = { top: 12, right: 16, bottom: 34, left: 56 };
/** More points than this are averaged: about one for two pixels. */
const curvePoints = 360;

/** The page, as text. */
export function renderRunReport(report: RunReport): string {
  const { title, facts, steps, epochs } = report;
  const lastStep = steps.at(-1)?.step ?? 0;
  const atEpochs = (value: (epoch: RunReport["epochs"][number]) => number | null): Point[] =>
    epochs.flatMap((epoch) => {
      const y = value(epoch);
      return y === null ? [] : [{ x: epoch.step, y }];
    });
  const losses: Series[] = [
    { name: "training", style: "train", points: averaged(steps.map(({ step, loss }) => ({ x: step, y: loss }))) },
    { name: "validation", style: "validation", points: atEpochs((epoch) => epoch.validationLoss), dots: true },
  ];
  const accuracies: Series[] = [
    { name: "validation", style: "validation", points: atEpochs((epoch) => epoch.validationAccuracy), dots: true },
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${stylesheet}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
<dl>${facts.map(([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd></div>`).join("")}</dl>
${section("Loss", losses, lastStep, (value) => String(Number(value.toPrecision(3))))}
${section("Accuracy", accuracies, lastStep, percent)}
${epochTable(report)}
</main>
</body>
</html>
`;
}

function section(title: string, series: readonly Series[], lastStep: number, label: (value: number) => string): string {
  const shown = series.filter(({ points }) => points.length > 0);
  if (shown.length === 0) return "";
  const legend = shown.map(({ name, style }) => `<span class="${style}">${name}</span>`).join(" ");
  return `<section><h2>${title}</h2><p class="legend">${legend}</p>${chart(title, shown, lastStep, label)}</section>`;
}

function chart(title: string, series: readonly Series[], lastStep: number, label: (value: number) => string): string {
  const values = series.flatMap(({ points }) => points.map(({ y }) => y));
  const yTicks = ticks(Math.min(...values), Math.max(...values), 5);
  const [low = 0, high = 1] = [yTicks.at(0), yTicks.at(-1)];
  const xTicks = ticks(0, lastStep, 8).filter((tick) => tick <= lastStep);
  const inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  const x = (value: number): string => (margin.left + (value / Math.max(1, lastStep)) * inner.width).toFixed(1);
  const y = (value: number): string =>
    (margin.top + inner.height - ((value - low) / (high - low)) * inner.height).toFixed(1);

  const grid = yTicks.map(
    (tick) =>
      `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y(tick)}" y2="${y(tick)}"/>` +
      `<text x="${margin.left - 8}" y="${y(tick)}" dy="0.32em" text-anchor="end">${label(tick)}</text>`,
  );
  const axis = xTicks.map(
    (tick) =>
      `<text x="${x(tick)}" y="${height - margin.bottom + 18}" text-anchor="middle">${tick.toLocaleString("en")}</text>`,
  );
  const curves = series.map(({ points, style, dots }) => {
    const line = `<polyline class="${style}" points="${points.map((point) => `${x(point.x)},${y(point.y)}`).join(" ")}"/>`;
    const marks = points.map((point) => `<circle class="${style}" cx="${x(point.x)}" cy="${y(point.y)}" r="3"/>`);
    return dots ? line + marks.join("") : line;
  });
  return (
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title} by step">` +
    `<g class="grid">${grid.join("")}${axis.join("")}</g>` +
    `<text class="unit" x="${width - margin.right}" y="${height - 2}" text-anchor="end">steps</text>` +
    `${curves.join("")}</svg>`
  );
}

function epochTable({ epochs }: RunReport): string {
  if (epochs.length === 0) return "";
  const rows = epochs.map(({ epoch, trainLoss, validationLoss, validationAccuracy, seconds }) => {
    const cells = [
      String(epoch),
      trainLoss.toFixed(4),
      validationLoss?.toFixed(4) ?? "",
      validationAccuracy === null ? "" : `${(100 * validationAccuracy).toFixed(2)} %`,
      `${seconds.toFixed(1)} s`,
    ];
    return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  const names = ["epoch", "training loss", "validation loss", "validation accuracy", "time"];
  const head = names.map((name) => `<th>${name}</th>`).join("");
  return `<section><h2>Epochs</h2><table><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table></section>`;
}

/** Round numbers from at most `low` to at least `high`, about `count` of them. */
function ticks(low: number, high: number, count: number): number[] {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const size = [1, 2, 5, 10].map((factor) => factor * power).find((step) => span / step <= count) ?? span;
  const first = Math.floor(low / size);
  const last = Math.max(first + 1, Math.ceil(high / size));
  // Computed from whole numbers, so that 0.3 does not become 0.30000000000000004.
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * size).toPrecision(12)));
}

/** Means of neighbouring points, so that a long run stays a small page. */
function averaged(points: readonly Point[]): Point[] {
  const size = Math.max(1, Math.ceil(points.length / curvePoints));
  return Array.from({ length: Math.ceil(points.length / size) }, (_, index) => {
    const group = points.slice(index * size, (index + 1) * size);
    const mean = (value: (point: Point) => number): number =>
      group.reduce((sum, point) => sum + value(point), 0) / group.length;
    return { x: mean((point) => point.x), y: mean((point) => point.y) };
  });
}

function percent(value: number): string {
  return `${Number((100 * value).toFixed(2))} %`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

const stylesheet = `
:root { color-scheme: light dark; --ink: #1c2430; --faint: #6b7480; --line: #dfe3e8; --train: #2a6fbb; --validation: #c8571b; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --faint: #98a2af; --line: #323a45; --train: #6cabf0; --validation: #f09a63; --page: #14181d; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 800px; margin: 0 auto; padding: 32px 20px; }
h1 { font-size: 22px; margin: 0 0 12px; } h2 { font-size: 16px; margin: 28px 0 0; }
dl { display: flex; flex-wrap: wrap; gap: 4px 28px; margin: 0; } dt { color: var(--faint); font-size: 12px; } dd { margin: 0; }
.legend { margin: 0 0 4px; font-size: 13px; } .legend span { margin-right: 14px; }
.legend .train { color: var(--train); } .legend .validation { color: var(--validation); }
svg { width: 100%; height: auto; } svg text { fill: var(--faint); font-size: 12px; } .grid line { stroke: var(--line); }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
polyline.train { stroke: var(--train); } polyline.validation { stroke: var(--validation); }
circle.train { fill: var(--train); } circle.validation { fill: var(--validation); }
table { border-collapse: collapse; margin-top: 8px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--line); } th { color: var(--faint); font-weight: 500; }
`;
