/**
 * Places for a diagram's boxes: layers from top to bottom, by dagre (Sugiyama's method), in as many columns as make a
 * picture of about a screen's proportions.
 *
 * A column ends at a box through which everything passes, a trunk; the next column begins with a small box of the same
 * name, and a line leads from one to the other.
 */
import { Graph, layout } from "@dagrejs/dagre";
import type { Arrow, Box, BoxGraph } from "./boxes.js";

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** A box with its place; x and y are its middle. */
export interface PlacedBox extends Point {
  readonly box: Box;
  readonly width: number;
  readonly height: number;
}

/** A line from box to box, as points that a curve follows. */
export interface PlacedArrow {
  readonly points: readonly Point[];
  readonly shortcut: boolean;
}

export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly PlacedBox[];
  readonly arrows: readonly PlacedArrow[];
  /** Lines from the end of a column to the beginning of the next: corners of a path. */
  readonly trunks: readonly (readonly Point[])[];
}

/** Pixels of a line of text; of letters, the widest that common fonts have on average; of what is around. */
const lineHeight = 15;
const letterWidth = 6.3;
const padding = { x: 12, y: 8 };
const gap = { rank: 24, box: 18, column: 56 };
/** Wanted width over height of the whole, and the height up to which one column will do. */
const proportion = 1.25;
const longestColumn = 950;

/** Boxes and lines with places, from (0, 0). */
export function placeBoxes(graph: BoxGraph): Layout {
  const depths = depthsOf(graph);
  const columns = columnsOf(graph, depths, columnCount(graph, depths));
  return joinColumns(graph, columns);
}

/** How many boxes precede each on its longest way from the input. */
function depthsOf({ boxes, arrows }: BoxGraph): ReadonlyMap<string, number> {
  const depths = new Map<string, number>();
  for (const { name } of boxes) {
    const read = arrows.filter(({ to }) => to === name).map(({ from }) => (depths.get(from) ?? 0) + 1);
    depths.set(name, Math.max(0, ...read));
  }
  return depths;
}

/** Columns that give the picture its proportions, by what one column would measure; one if that is not too long. */
function columnCount({ boxes }: BoxGraph, depths: ReadonlyMap<string, number>): number {
  const rows = grouped(boxes, ({ name }) => depths.get(name));
  const [widths, heights]: [number[], number[]] = [[], []];
  for (const row of rows.values()) {
    widths.push(row.reduce((sum, box) => sum + extent(box).width + gap.box, 0));
    heights.push(Math.max(...row.map((box) => extent(box).height)) + gap.rank);
  }
  const height = heights.reduce((sum, each) => sum + each, 0);
  return height < longestColumn ? 1 : Math.max(1, Math.round(Math.sqrt((proportion * height) / Math.max(...widths))));
}

/**
 * The segment of each box: one ends at every box through which all that leads to the prediction passes. A box of an
 * auxiliary head belongs to the segment after what it reads.
 */
function segmentsOf({ boxes, arrows }: BoxGraph): ReadonlyMap<string, number> {
  const main = boxes.filter(({ auxiliary }) => !auxiliary);
  const place = new Map(main.map(({ name }, index) => [name, index]));
  const farthest = new Map<string, number>();
  for (const { from, to } of arrows) farthest.set(from, Math.max(farthest.get(from) ?? 0, place.get(to) ?? 0));
  const segments = new Map<string, number>();
  const after = new Map<string, number>();
  let [segment, reach] = [0, 0];
  for (const [index, { name }] of main.entries()) {
    segments.set(name, segment);
    if (reach <= index) segment += 1;
    after.set(name, segment);
    reach = Math.max(reach, farthest.get(name) ?? 0);
  }
  for (const { name, auxiliary } of boxes) {
    if (!auxiliary) continue;
    const read = arrows.filter(({ to }) => to === name).map(({ from }) => after.get(from) ?? segments.get(from) ?? 0);
    segments.set(name, Math.max(0, ...read));
  }
  return segments;
}

/** Boxes by column: whole segments, so that the columns are about equally long. */
function columnsOf(graph: BoxGraph, depths: ReadonlyMap<string, number>, wanted: number): (readonly Box[])[] {
  const segments = segmentsOf(graph);
  const segmentOf = ({ name }: Box) => segments.get(name) ?? 0;
  const main = graph.boxes.filter(({ auxiliary }) => !auxiliary);
  const depth = Math.max(...main.map(({ name }) => depths.get(name) ?? 0)) + 1;
  const columnOf = new Map<number, number>();
  for (const [segment, boxes] of grouped(main, segmentOf)) {
    const inside = boxes.map(({ name }) => depths.get(name) ?? 0);
    columnOf.set(segment, Math.floor((wanted * (Math.min(...inside) + Math.max(...inside) + 1)) / 2 / depth));
  }
  const last = Math.max(...columnOf.values());
  return [...grouped(graph.boxes, (box) => columnOf.get(segmentOf(box)) ?? last).entries()]
    .toSorted(([one], [other]) => one - other)
    .map(([, boxes]) => boxes);
}

/** Places columns side by side, each but the first with a port for what comes from the column before. */
function joinColumns({ arrows }: BoxGraph, columns: readonly (readonly Box[])[]): Layout {
  const placed: { boxes: PlacedBox[]; arrows: PlacedArrow[]; trunks: Point[][] } = {
    boxes: [],
    arrows: [],
    trunks: [],
  };
  let [left, height, bottom] = [0, 0, 0];
  const found = new Map<string, PlacedBox>();
  for (const column of columns) {
    const names = new Set(column.map(({ name }) => name));
    const entering = arrows.filter(({ from, to }) => names.has(to) && !names.has(from));
    const ports = [...new Set(entering.map(({ from }) => from))].map((from): Box => {
      return { name: `port ${from}`, kind: "other", lines: [from], auxiliary: false };
    });
    const inside = arrows.filter(({ from, to }) => names.has(from) && names.has(to));
    const fromPorts = entering.map((arrow) => ({ ...arrow, from: `port ${arrow.from}` }));
    const { boxes, arrows: lines, ...size } = placeColumn([...ports, ...column], [...inside, ...fromPorts]);
    const move = ({ x, y }: Point): Point => ({ x: x + left, y });
    for (const each of boxes) {
      const moved = { ...each, ...move(each) };
      placed.boxes.push(moved);
      const source = each.box.name.startsWith("port ") ? found.get(each.box.name.slice("port ".length)) : undefined;
      if (source) placed.trunks.push(trunk(source, moved, left - gap.column / 2, bottom));
      else found.set(each.box.name, moved);
    }
    bottom = Math.max(...boxes.map((each) => each.y + each.height / 2));
    placed.arrows.push(...lines.map(({ points, shortcut }) => ({ points: points.map(move), shortcut })));
    left += size.width + gap.column;
    height = Math.max(height, size.height);
  }
  return { ...placed, width: left - gap.column, height };
}

/** From a box, below the end of its column, through the gap before the port's column, from above into the port. */
function trunk(from: PlacedBox, to: PlacedBox, x: number, bottom: number): Point[] {
  const [below, above] = [bottom + 10, to.y - to.height / 2 - 12];
  return [
    { x: from.x, y: from.y + from.height / 2 },
    { x: from.x, y: below },
    { x, y: below },
    { x, y: above },
    { x: to.x, y: above },
    { x: to.x, y: to.y - to.height / 2 },
  ];
}

function placeColumn(boxes: readonly Box[], arrows: readonly Arrow[]): Omit<Layout, "trunks"> {
  const graph = new Graph({ multigraph: true });
  // Room above for the line that comes from the column before, and below for the one that goes on.
  graph.setGraph({ rankdir: "TB", ranksep: gap.rank, nodesep: gap.box, edgesep: gap.box, marginy: 14 });
  for (const box of boxes) graph.setNode(box.name, extent(box));
  for (const [index, arrow] of arrows.entries()) {
    // A heavier edge is kept straight: the trunk rather than the shortcut beside it.
    graph.setEdge(arrow.from, arrow.to, { weight: arrow.shortcut ? 1 : 2, minlen: 1 }, `${index}`);
  }
  layout(graph);
  const { width = 0, height = 0 } = graph.graph();
  return {
    width,
    height,
    boxes: boxes.map((box) => ({ box, ...graph.node(box.name) })),
    arrows: arrows.map(({ from, to, shortcut }, index) => {
      const { points = [] }: { points?: readonly Point[] } = graph.edge(from, to, `${index}`);
      return { points, shortcut };
    }),
  };
}

/** What there is by its key, in the order of first appearance. */
function grouped<Each, Key>(all: readonly Each[], keyOf: (each: Each) => Key): ReadonlyMap<Key, readonly Each[]> {
  const groups = new Map<Key, Each[]>();
  for (const each of all) {
    const key = keyOf(each);
    const group = groups.get(key);
    if (group) group.push(each);
    else groups.set(key, [each]);
  }
  return groups;
}

function extent({ lines }: Box): { width: number; height: number } {
  const longest = Math.max(...lines.map((line, index) => line.length * (index === 0 ? 1.06 : 1)));
  return {
    width: Math.ceil(longest * letterWidth) + 2 * padding.x,
    height: lines.length * lineHeight + 2 * padding.y,
  };
}
