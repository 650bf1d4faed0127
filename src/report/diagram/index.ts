import type { GraphDefinition } from "../../model/definition.js";
import { summarize } from "../summary.js";
import { boxGraph, type Kind } from "./boxes.js";
import { type PlacedArrow, type PlacedBox, type Point, placeBoxes } from "./layout.js";

/** Fill and border of each kind of box, and what the legend calls it. */
const colours: Readonly<Record<Kind, readonly [fill: string, border: string, legend: string]>> = {
  input: ["#eceff1", "#78909c", ""],
  convolution: ["#dbeafe", "#3b82f6", "convolution"],
  dense: ["#ede4fc", "#8b5cf6", "dense"],
  pooling: ["#d8f3e3", "#2f9e68", "pooling"],
  join: ["#fdebd0", "#d98324", "sum, concatenation"],
  other: ["#f7f7f5", "#9a9a92", "other"],
  output: ["#eceff1", "#78909c", ""],
};
const margin = 24;
const headerHeight = 66;
const lineHeight = 15;

/**
 * A network as a picture: boxes from top to bottom with names, operations, shapes and parameters, coloured by their kind;
 * branches side by side, shortcuts in orange, auxiliary heads with dashed borders. What only one layer reads stands in its
 * box: a convolution with its batch normalisation and ReLU. Long networks go on in further columns.
 *
 * @param definition `model(...).definition`
 * @returns an SVG document; text, which needs no other file
 * @throws FoveaError when the definition makes no network, as `describe` says
 * @example
 * ```ts
 * import { diagram, zoo } from "fovea";
 *
 * console.log(diagram(zoo.lenet5().definition).slice(0, 4)); // <svg
 * ```
 */
export function diagram(definition: GraphDefinition): string {
  const graph = boxGraph(definition);
  const { boxes, arrows, trunks, ...size } = placeBoxes(graph);
  const kinds = new Set(graph.boxes.map(({ kind }) => kind));
  const legend = Object.entries(colours).filter(([kind, [, , text]]) => text !== "" && has(kinds, kind));
  const header = headline(definition);
  const width = Math.ceil(Math.max(size.width, 7 * header.length, 150 * legend.length) + 2 * margin);
  const height = Math.ceil(size.height + headerHeight + 2 * margin);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escaped(definition.name)}</title>`,
    style(),
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="${margin}" y="${margin + 10}" class="head">${escaped(definition.name)}</text>`,
    `<text x="${margin}" y="${margin + 30}">${escaped(header)}</text>`,
    ...legend.map(([kind, [, , text]], index) => legendEntry(kind, text, margin + 150 * index, margin + 40)),
    `<g transform="translate(${round((width - size.width) / 2)} ${margin + headerHeight})">`,
    ...arrows.map(arrowPath),
    ...trunks.map((points) => `<path class="trunk" d="${cornered(points)}"/>`),
    ...boxes.map(boxShape),
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

function has(kinds: ReadonlySet<string>, kind: string): boolean {
  return kinds.has(kind);
}

function headline(definition: GraphDefinition): string {
  const { input, classes, parameters, multAdds, auxiliary } = summarize(definition);
  const whole = (count: number) => count.toLocaleString("en-US");
  const heads = auxiliary.parameters > 0 ? `, ${whole(auxiliary.parameters)} of them in auxiliary heads` : "";
  return (
    `${input.join(" × ")} in, ${whole(classes)} classes out; ${whole(parameters)} parameters${heads}; ` +
    `${whole(multAdds)} mult-adds an image`
  );
}

function style(): string {
  const boxes = Object.entries(colours).map(([kind, [fill, border]]) => `.${kind}{fill:${fill};stroke:${border}}`);
  return [
    "<style>",
    "text{font:11px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#263238}",
    ".name{font-weight:600}.middle{text-anchor:middle}.head{font-size:18px;font-weight:600}",
    "path{fill:none;stroke:#8a969e;stroke-width:1.3;marker-end:url(#tip)}",
    ".shortcut{stroke:#d98324;stroke-width:1.8;marker-end:url(#shortcut-tip)}",
    ".trunk{stroke-width:2;stroke:#546e7a}",
    ...boxes,
    ".auxiliary{stroke-dasharray:5 3}",
    "</style>",
    `<defs>${tip("tip", "#8a969e")}${tip("shortcut-tip", "#d98324")}</defs>`,
  ].join("\n");
}

function tip(id: string, colour: string): string {
  const shape = `<polygon points="0,0 8,4 0,8" fill="${colour}"/>`;
  return `<marker id="${id}" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto" markerUnits="userSpaceOnUse">${shape}</marker>`;
}

function legendEntry(kind: string, text: string, x: number, y: number): string {
  const square = `<rect class="${kind}" x="${x}" y="${y}" width="12" height="12" rx="3"/>`;
  return `${square}<text x="${x + 18}" y="${y + 10}">${text}</text>`;
}

function boxShape({ box, x, y, width, height }: PlacedBox): string {
  const classes = [box.kind, ...(box.auxiliary ? ["auxiliary"] : [])].join(" ");
  const [left, top] = [x - width / 2, y - height / 2];
  const corner = box.lines.length === 1 ? height / 2 : 6;
  const rect = `<rect class="${classes}" x="${round(left)}" y="${round(top)}" width="${width}" height="${height}" rx="${corner}"/>`;
  const lines = box.lines.map((line, index) => {
    const baseline = round(top + 8 + lineHeight * index + 11);
    return `<text class="middle${index === 0 ? " name" : ""}" x="${round(x)}" y="${baseline}">${escaped(line)}</text>`;
  });
  return `<g>${rect}${lines.join("")}</g>`;
}

function arrowPath({ points, shortcut }: PlacedArrow): string {
  return `<path${shortcut ? ' class="shortcut"' : ""} d="${curved(points)}"/>`;
}

/** A smooth line: it bends at each point, and passes through the middles between them. */
function curved([first, ...rest]: readonly Point[]): string {
  if (first === undefined) return "";
  const last = rest.at(-1) ?? first;
  const bends = rest.slice(0, -1).map((point, index) => {
    const next = rest[index + 1] ?? last;
    const end = next === last ? last : { x: (point.x + next.x) / 2, y: (point.y + next.y) / 2 };
    return `Q${at(point)} ${at(end)}`;
  });
  return `M${at(first)}${bends.join("")}${bends.length === 0 ? `L${at(last)}` : ""}`;
}

/** A line of right angles, its corners rounded. */
function cornered(points: readonly Point[]): string {
  return points
    .map((point, index) => {
      const [before, after] = [points[index - 1], points[index + 1]];
      if (before === undefined) return `M${at(point)}`;
      if (after === undefined) return `L${at(point)}`;
      return `L${at(towards(point, before))}Q${at(point)} ${at(towards(point, after))}`;
    })
    .join("");
}

/** The point eight pixels, or half the way, from one point to another. */
function towards(from: Point, to: Point): Point {
  const distance = Math.hypot(to.x - from.x, to.y - from.y);
  const share = Math.min(8, distance / 2) / (distance || 1);
  return { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
}

function at({ x, y }: Point): string {
  return `${round(x)},${round(y)}`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}
