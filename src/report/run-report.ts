/**
 * The report of a run: one HTML page without outside resources, with its curves as inline SVG. The static one has no
 * script; the live one asks its own server for news.
 */
import { averaged, chart, type Point, type Series } from "./chart.js";

/** What the report shows; times in seconds, accuracies from 0 to 1. */
export interface RunReport {
  readonly title: string;
  /** Shown as a list under the title: what was trained, on what, how. */
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly steps: readonly { readonly step: number; readonly loss: number; readonly learningRate: number }[];
  readonly epochs: readonly ReportEpoch[];
}

interface ReportEpoch {
  readonly epoch: number;
  /** The step with which it ended. */
  readonly step: number;
  readonly trainLoss: number;
  readonly trainAccuracy: number;
  readonly validationLoss: number | null;
  readonly validationAccuracy: number | null;
  readonly best: boolean;
  readonly seconds: number;
}

/**
 * The page, as text.
 *
 * @param script the address of a script that keeps the page up to date; none for a page that is a file
 */
export function renderRunReport(report: RunReport, script?: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(report.title)}</title>
<style>${stylesheet}</style>
</head>
<body>
<main>
${renderRunContent(report)}
</main>
${script === undefined ? "" : `<script src="${script}"></script>\n`}</body>
</html>
`;
}

/** What changes on the page while the run goes on. */
export function renderRunContent(report: RunReport): string {
  const { title, facts, steps, epochs } = report;
  const lastStep = Math.max(steps.at(-1)?.step ?? 0, epochs.at(-1)?.step ?? 0);
  const overSteps = (value: (step: RunReport["steps"][number]) => number): Point[] =>
    averaged(steps.map((step) => ({ x: step.step, y: value(step) })));
  const overEpochs = (value: (epoch: ReportEpoch) => number | null): Point[] =>
    epochs.flatMap((epoch) => {
      const y = value(epoch);
      return y === null ? [] : [{ x: epoch.step, y }];
    });
  const losses: Series[] = [
    { name: "training", style: "train", points: overSteps(({ loss }) => loss) },
    { name: "validation", style: "validation", points: overEpochs(({ validationLoss }) => validationLoss), dots: true },
  ];
  const accuracies: Series[] = [
    { name: "training", style: "train", points: overEpochs(({ trainAccuracy }) => trainAccuracy), dots: true },
    { name: "validation", style: "validation", points: overEpochs((epoch) => epoch.validationAccuracy), dots: true },
  ];
  const rates: Series[] = [
    { name: "learning rate", style: "rate", points: overSteps(({ learningRate }) => learningRate) },
  ];
  const list = facts.map(([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd></div>`);
  return `<h1>${escapeHtml(title)}</h1>
<dl>${list.join("")}</dl>
${steps.length === 0 ? "<p>No step is done yet.</p>" : ""}
${section("Loss", losses, lastStep, short)}
${section("Accuracy", accuracies, lastStep, percent)}
${section("Learning rate", rates, lastStep, short)}
${epochTable(report)}`;
}

function section(title: string, series: readonly Series[], lastStep: number, label: (value: number) => string): string {
  const shown = series.filter(({ points }) => points.length > 0);
  if (shown.length === 0) return "";
  const legend = shown.map(({ name, style }) => `<span class="${style}">${name}</span>`).join(" ");
  return `<section><h2>${title}</h2><p class="legend">${legend}</p>${chart(title, shown, lastStep, label)}</section>`;
}

function epochTable({ epochs }: RunReport): string {
  if (epochs.length === 0) return "";
  const share = (value: number | null): string => (value === null ? "" : `${(100 * value).toFixed(2)} %`);
  const rows = epochs.map((epoch) => {
    const cells = [
      String(epoch.epoch),
      epoch.trainLoss.toFixed(4),
      share(epoch.trainAccuracy),
      epoch.validationLoss?.toFixed(4) ?? "",
      share(epoch.validationAccuracy),
      `${epoch.seconds.toFixed(1)} s`,
      epoch.best ? "best so far" : "",
    ];
    return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  const names = ["epoch", "training loss", "accuracy", "validation loss", "accuracy", "time", ""];
  const head = names.map((name) => `<th>${name}</th>`).join("");
  return `<section><h2>Epochs</h2><table><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table></section>`;
}

function short(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function percent(value: number): string {
  return `${Number((100 * value).toFixed(2))} %`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

const stylesheet = `
:root { color-scheme: light dark; --ink: #1c2430; --faint: #6b7480; --line: #dfe3e8; --train: #2a6fbb; --validation: #c8571b; --rate: #4c8a3f; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --faint: #98a2af; --line: #323a45; --train: #6cabf0; --validation: #f09a63; --rate: #86c777; --page: #14181d; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 800px; margin: 0 auto; padding: 32px 20px; }
h1 { font-size: 22px; margin: 0 0 12px; } h2 { font-size: 16px; margin: 28px 0 0; }
dl { display: flex; flex-wrap: wrap; gap: 4px 28px; margin: 0; } dt { color: var(--faint); font-size: 12px; } dd { margin: 0; }
.legend { margin: 0 0 4px; font-size: 13px; } .legend span { margin-right: 14px; }
.legend .train { color: var(--train); } .legend .validation { color: var(--validation); } .legend .rate { color: var(--rate); }
svg { width: 100%; height: auto; } svg text { fill: var(--faint); font-size: 12px; } .grid line { stroke: var(--line); }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
polyline.train { stroke: var(--train); } polyline.validation { stroke: var(--validation); } polyline.rate { stroke: var(--rate); }
circle.train { fill: var(--train); } circle.validation { fill: var(--validation); }
table { border-collapse: collapse; margin-top: 8px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--line); } th { color: var(--faint); font-weight: 500; }
`;
