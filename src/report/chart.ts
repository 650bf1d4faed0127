/** Curves over steps, as SVG without outside resources. */

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Series {
  readonly name: string;
  /** The CSS class that gives the colour. */
  readonly style: "train" | "validation" | "rate";
  readonly points: readonly Point[];
  /** Points drawn as dots, besides the line through them. */
  readonly dots?: boolean;
}

const width = 760;
const height = 280;
const margin = { top: 12, right: 16, bottom: 34, left: 56 };
/** More points than this are averaged: about one for two pixels. */
const curvePoints = 360;

/** A chart with its axes; colours come from the page's style sheet. */
export function chart(
  title: string,
  series: readonly Series[],
  lastStep: number,
  label: (value: number) => string,
): string {
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
export function averaged(points: readonly Point[]): Point[] {
  const size = Math.max(1, Math.ceil(points.length / curvePoints));
  return Array.from({ length: Math.ceil(points.length / size) }, (_, index) => {
    const group = points.slice(index * size, (index + 1) * size);
    const mean = (value: (point: Point) => number): number =>
      group.reduce((sum, point) => sum + value(point), 0) / group.length;
    return { x: mean((point) => point.x), y: mean((point) => point.y) };
  });
}
