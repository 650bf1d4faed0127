/** Windows that slide over a feature map: what convolution and pooling have in common. */
import { FoveaError, invalidArgument } from "../errors.js";
import { invalidShape, isWhole, positive, text } from "./checks.js";
import type { PaddingDefinition } from "./definition.js";
import type { MapShape } from "./shape.js";

/** A window, and how it moves. */
export interface Window {
  /** Of the layer. */
  readonly name: string;
  /** What the layer calls its window. */
  readonly option: "kernel" | "size";
  readonly extent: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: PaddingDefinition;
  readonly dilation: readonly [number, number];
  readonly ceilMode: boolean;
}

/** Options may be missing altogether where a definition comes from a file, or a call from JavaScript. */
export function checkWindow({ name, option, extent, stride, padding, dilation }: Window): void {
  for (const [label, pair] of [
    [option, extent],
    ["stride", stride],
    ["dilation", dilation],
  ] as const) {
    if (pair?.length !== 2) throw invalidArgument(`${name}.${label}`, "a number or [height, width]", pair);
    for (const each of pair) positive(`${name}.${label}`, each);
  }
  if (padding !== "same" && padding !== "valid" && !areSides(padding)) {
    throw invalidArgument(`${name}.padding`, '"same", "valid", or whole numbers from 0', padding);
  }
}

/** Whether something is a number of pixels for each of the four sides. */
export function areSides(padding: unknown): boolean {
  return Array.isArray(padding) && padding.length === 4 && padding.every(isWhole);
}

/** The number of windows in one direction; the formula of `Slide` in shape.ts. */
export function slide(window: Window, input: MapShape, axis: 0 | 1): number {
  const size = input[axis];
  const stride = window.stride[axis];
  if (window.padding === "same") return Math.ceil(size / stride);
  const [before, after] = zeros(window.padding, axis);
  const padded = before + size + after;
  const extent = windowExtent(window.extent[axis], window.dilation[axis]);
  if (extent > padded) throw windowTooLarge(window, input, padded, axis);
  if (!window.ceilMode) return Math.floor((padded - extent) / stride) + 1;
  const count = Math.ceil((padded - extent) / stride) + 1;
  return (count - 1) * stride >= before + size ? count - 1 : count;
}

/**
 * The size in one direction of what a transposed convolution gives; the formula of `Enlarged` in shape.ts.
 *
 * @param extra pixels added at the end
 */
export function enlarge(window: Window, input: MapShape, axis: 0 | 1, extra: number): number {
  const { name, padding, stride, extent, dilation } = window;
  const whole = (input[axis] - 1) * stride[axis] + windowExtent(extent[axis], dilation[axis]) + extra;
  if (padding === "same") {
    const size = input[axis] * stride[axis];
    if (whole >= size) return size;
    const expected = `a kernel of at least ${extent[axis] + size - whole} for "${name}", for padding "same"`;
    throw invalidShape(expected, `${extent[axis]} with a stride of ${stride[axis]}`, input);
  }
  const [before, after] = zeros(padding, axis);
  if (before + after < whole) return whole - before - after;
  throw invalidShape(`padding below ${whole} for "${name}"`, `${before + after}`, input);
}

function windowTooLarge(window: Window, input: MapShape, padded: number, axis: 0 | 1): FoveaError {
  const { name, option, padding } = window;
  const size = window.extent[axis];
  const dilation = window.dilation[axis];
  const spread = dilation === 1 ? "" : ` with dilation ${dilation}, which spans ${windowExtent(size, dilation)}`;
  const sides = zeros(padding, axis).some((each) => each > 0) ? `, padding ${text(padding)}` : "";
  return new FoveaError(
    "INVALID_SHAPE",
    `Expected a window of at most ${padded} for "${name}" but received a ${option} of ${size}${spread} ` +
      `(input ${text(input)}${sides}).`,
  );
}

/** The pixels that a dilated window spans in one direction. */
export function windowExtent(size: number, dilation: number): number {
  return dilation * (size - 1) + 1;
}

/** Explicit zeros before and after, in one direction; `"same"` has none of these, its zeros follow from the input. */
export function zeros(padding: PaddingDefinition, axis: 0 | 1): readonly [before: number, after: number] {
  if (padding === "same" || padding === "valid") return [0, 0];
  const [top, right, bottom, left] = padding;
  return axis === 0 ? [top, bottom] : [left, right];
}
