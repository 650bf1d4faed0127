/**
 * The ratios as a bar chart in SVG: a bar a peer, to the right of the line where both are equally fast if fovea is faster,
 * with the range of the rounds across its end. The axis is logarithmic, so that twice as fast is as long as half as fast.
 * Rectangles, lines and text need no plotting library, and few draw without a DOM.
 */

import { modes, modeTitles } from "./cases.js";
import { type CaseReport, heading, type PartyReport, peersOf, type Report } from "./report.js";

const width = 880;
const left = 190; // names of the networks
const right = 70; // numbers beside the longest bar
const bar = 12;
const gap = 8;

/** Text, grid and the peers' colours, on light and on dark pages. */
const style = `
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 14px; font-weight: 600 }
  .small { font-size: 11px; fill: #59636e }
  .grid { stroke: #d1d9e0 }
  .equal { stroke: #1f2328 }
  .range { stroke: #1f2328; stroke-width: 1.5 }
  .peer0 { fill: #e07b39 }
  .peer1 { fill: #4a7fd1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .small { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .equal, .range { stroke: #f0f6fc }
  }`;

/** A picture of a report; its text can be read by a screen reader, too. */
export function chart(report: Report): string {
  const peers = peersOf(report);
  const groups = modes
    .map((mode) => ({ title: modeTitles[mode], cases: report.cases.filter((one) => one.mode === mode) }))
    .filter(({ cases }) => cases.some((one) => one.peers.length > 0));
  const ticks = axis(report.cases.flatMap((one) => one.peers.flatMap(({ ratio }) => [ratio.min, ratio.max])));
  const scale = logarithmic(ticks);

  let y = 70;
  const drawn: string[] = [];
  for (const { title, cases } of groups) {
    drawn.push(text(16, y, title, "title"));
    y += 14;
    for (const one of cases) {
      drawn.push(...rows(one, peers, y, scale));
      y += one.peers.length * bar + gap;
    }
    y += 24;
  }
  const bottom = y - 20;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom + 34}" role="img">`,
    `<title>Time of a step over fovea's, by network</title><desc>${escaped(heading(report))}</desc>`,
    `<style>${style}\n</style>`,
    text(16, 24, "How many times as long as fovea's a step takes", "title"),
    ...legend(report, peers),
    ...ticks.map((tick) => line(scale(tick), 56, scale(tick), bottom, "grid")),
    ...ticks.map((tick) => text(scale(tick), bottom + 16, `${tick}`, "small", "middle")),
    ...drawn,
    line(scale(1), 56, scale(1), bottom, "equal"),
    "</svg>\n",
  ].join("\n");
}

function legend(report: Report, peers: readonly string[]): string[] {
  return peers.flatMap((peer, at) => [
    `<rect class="peer${at}" x="${16 + at * 180}" y="34" width="${bar}" height="${bar}"/>`,
    text(34 + at * 180, 44, report.versions[peer] ?? peer),
  ]);
}

/** A network's bars, its name beside them. */
function rows(one: CaseReport, peers: readonly string[], top: number, scale: (ratio: number) => number): string[] {
  const name = text(left - 10, top + (one.peers.length * bar) / 2 + 4, `${one.network} (${one.batch})`, "", "end");
  return [
    ...(one.peers.length > 0 ? [name] : []),
    ...one.peers.flatMap((peer, at) => row(peer, peers.indexOf(peer.party), top + at * bar, scale)),
  ];
}

function row({ ratio }: PartyReport, color: number, top: number, scale: (ratio: number) => number): string[] {
  const start = scale(Math.min(1, ratio.median));
  const end = scale(Math.max(1, ratio.median));
  const middle = top + bar / 2;
  return [
    `<rect class="peer${color}" x="${round(start)}" y="${top + 1}" width="${round(end - start)}" height="${bar - 2}"/>`,
    line(scale(ratio.min), middle, scale(ratio.max), middle, "range"),
    text(scale(Math.max(1, ratio.max)) + 6, middle + 4, ratio.median.toFixed(2), "small"),
  ];
}

/** Powers of two around the values and one, and beyond one at least. */
export function axis(values: readonly number[]): number[] {
  const first = Math.floor(Math.log2(Math.min(1, ...values)));
  const last = Math.ceil(Math.log2(Math.max(2, ...values)));
  return Array.from({ length: last - first + 1 }, (_, index) => 2 ** (first + index));
}

/** From a value to its place between the first and the last tick. */
function logarithmic(ticks: readonly number[]): (value: number) => number {
  const [first = 1] = ticks;
  return (value) => left + (Math.log2(value / first) / (ticks.length - 1)) * (width - left - right);
}

function text(x: number, y: number, content: string, kind = "", anchor = "start"): string {
  const attributes = `${kind && ` class="${kind}"`}${anchor === "start" ? "" : ` text-anchor="${anchor}"`}`;
  return `<text x="${round(x)}" y="${round(y)}"${attributes}>${escaped(content)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, kind: string): string {
  return `<line class="${kind}" x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}"/>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
