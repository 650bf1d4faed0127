/**
 * Sizes as types: what a layer makes of height, width and channels, computed by the compiler.
 *
 * A feature map carries its three sizes as literal types, and each layer computes the next three. What holds it together:
 *
 * - a size is a number or a {@link ShapeError}. Layers ask by their `this` type for numbers, so that an impossible layer's
 *   result has no further layers, and the compiler's message quotes the error's text with both sizes in it;
 * - a size that is known only at run time is `number`, and so is everything computed from it. Run-time checks cover it;
 * - only sizes are conditional types, never a whole feature map: a block generic in its sizes can chain on the result.
 *   {@link Slide} looks at the options before it looks at the size, so that a layer which keeps the size gives back the
 *   very type parameter it was given, and each step distributes over the size, so that a generic size remains a number;
 * - inference and constraints compare maps by their shapes alone; comparing whole maps would compare every method's types.
 *
 * The casts of the typed builder are all in this file.
 */
import type { Add, Divide, Lt, Mod, Multiply, Subtract } from "ts-arithmetic";

declare const shapeError: unique symbol;

/** A size that cannot exist; its text is what the compiler says. */
export interface ShapeError<Message extends string> {
  readonly [shapeError]: Message;
}

/** One size of a feature map: a literal where the compiler knows it, `number` where only the program does. */
export type Size = number | ShapeError<string>;

/** The sizes of a feature map: height, width, channels. */
export type MapShape = readonly [height: number, width: number, channels: number];

/** The size of a vector. */
export type VectorShape = readonly [size: number];

/** What a layer takes or gives for one image. */
export type Shape = MapShape | VectorShape;

/** One number for both directions, or height and width apart. */
export type Pair = number | readonly [height: number, width: number];

/**
 * Zeros around a feature map: `"valid"` none; `"same"` as many as give ceil(input / stride) outputs, the odd one at the
 * bottom and right; a number for all sides; or one number a side.
 */
export type Padding = "same" | "valid" | Zeros;

/** Zeros around a feature map: a number for all sides, or one number a side. */
export type Zeros = number | readonly [top: number, right: number, bottom: number, left: number];

/** The height's part of a pair. */
export type Vertical<P extends Pair> = P extends readonly [infer Height extends number, number] ? Height : P & number;

/** The width's part of a pair. */
export type Horizontal<P extends Pair> = P extends readonly [number, infer Width extends number] ? Width : P & number;

/** Padding of one direction: `"same"`, or the zeros before and after. */
type Edge = "same" | readonly [before: number, after: number];

/** The padding above and below. */
export type VerticalEdge<P extends Padding> = P extends readonly [
  infer Top extends number,
  number,
  infer Bottom extends number,
  number,
]
  ? readonly [Top, Bottom]
  : BothSides<P>;

/** The padding left and right. */
export type HorizontalEdge<P extends Padding> = P extends readonly [
  number,
  infer Right extends number,
  number,
  infer Left extends number,
]
  ? readonly [Left, Right]
  : BothSides<P>;

type BothSides<P extends Padding> = P extends number ? readonly [P, P] : P extends "valid" ? readonly [0, 0] : "same";

/**
 * How many windows slide over one direction of a feature map: a convolution's or pooling layer's output size.
 *
 * floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1, and with `Ceil` the division rounds up unless
 * the last window would begin beyond the input.
 */
export type Slide<
  S extends Size,
  Kernel extends number,
  Stride extends number,
  E extends Edge,
  Dilation extends number,
  Ceil extends boolean,
> = E extends readonly [infer Before extends number, infer After extends number]
  ? Windows<S, Kernel, Stride, Before, After, Dilation, Ceil>
  : [Stride] extends [1]
    ? S
    : CeilDivide<S, Stride>;

type Windows<
  S extends Size,
  Kernel extends number,
  Stride extends number,
  Before extends number,
  After extends number,
  Dilation extends number,
  Ceil extends boolean,
> = S extends number
  ? number extends S | Kernel | Stride | Before | After | Dilation
    ? number
    : boolean extends Ceil
      ? number
      : Fit<S, Add<S, Add<Before, After>>, Extent<Kernel, Dilation>, Stride, Before, Ceil>
  : S;

/** The pixels between a window's first and last, both counted. */
type Extent<Kernel extends number, Dilation extends number> = Add<Multiply<Dilation, Subtract<Kernel, 1>>, 1>;

type Fit<
  S extends number,
  Padded extends number,
  Window extends number,
  Stride extends number,
  Before extends number,
  Ceil extends boolean,
> =
  Lt<Padded, Window> extends 1
    ? ShapeError<`a window of ${Window} does not fit into ${Padded}${Padded extends S ? "" : `, which is ${S} with its padding`}`>
    : Ceil extends true
      ? WithinInput<Add<CeilDivide<Subtract<Padded, Window>, Stride>, 1>, Stride, Add<S, Before>>
      : Add<FloorDivide<Subtract<Padded, Window>, Stride>, 1>;

/** One window fewer when the last would begin at `Limit` or beyond. */
type WithinInput<Count extends number, Stride extends number, Limit extends number> =
  Lt<Multiply<Subtract<Count, 1>, Stride>, Limit> extends 1 ? Count : Subtract<Count, 1>;

type FloorDivide<A extends number, B extends number> = Divide<Subtract<A, Mod<A, B>>, B>;

type CeilDivide<A extends Size, B extends number> = A extends number
  ? number extends A | B
    ? number
    : FloorDivide<Subtract<Add<A, B>, 1>, B>
  : A;

/** A grouped convolution's channels: its filters, if groups divide them and the channels that come in. */
export type Grouped<Channels extends Size, Filters extends number, Groups extends number> = [Groups] extends [1]
  ? Filters
  : Channels extends number
    ? number extends Channels | Filters | Groups
      ? Filters
      : Mod<Channels, Groups> extends 0
        ? Mod<Filters, Groups> extends 0
          ? Filters
          : ShapeError<`${Filters} filters cannot be divided into ${Groups} groups`>
        : ShapeError<`${Channels} channels cannot be divided into ${Groups} groups`>
    : Channels;

/** One direction of a feature map with its padding. */
export type Padded<S extends Size, E extends Edge> = E extends readonly [
  infer Before extends number,
  infer After extends number,
]
  ? [Before, After] extends [0, 0]
    ? S
    : S extends number
      ? number extends S | Before | After
        ? number
        : Add<S, Add<Before, After>>
      : S
  : S;

/** One direction of a feature map made a whole number of times as large. */
export type Times<S extends Size, Factor extends number> = [Factor] extends [1]
  ? S
  : S extends number
    ? number extends S | Factor
      ? number
      : Multiply<S, Factor>
    : S;

/**
 * One direction of what a transposed convolution gives: (size - 1) * stride + dilation * (kernel - 1) + 1 + extra, less what
 * the padding takes away; with padding `"same"` size * stride.
 */
export type Enlarged<
  S extends Size,
  Kernel extends number,
  Stride extends number,
  E extends Edge,
  Dilation extends number,
  Extra extends number,
> = E extends readonly [infer Before extends number, infer After extends number]
  ? S extends number
    ? number extends S | Kernel | Stride | Before | After | Dilation | Extra
      ? number
      : Uncut<Add<Add<Multiply<Subtract<S, 1>, Stride>, Extent<Kernel, Dilation>>, Extra>, Add<Before, After>>
    : S
  : Times<S, Stride>;

type Uncut<Whole extends number, Cut extends number> =
  Lt<Cut, Whole> extends 1 ? Subtract<Whole, Cut> : ShapeError<`padding of ${Cut} leaves nothing of ${Whole}`>;

/** The shapes of a factor for each channel of a feature map. */
export type Factors<S extends readonly Size[]> = S extends readonly [Size, Size, infer C extends number]
  ? readonly [1, 1, C] | readonly [C]
  : never;

/** The sum of the last sizes of feature maps or vectors: what concatenation gives. */
export type ChannelSum<Shapes extends readonly (readonly Size[])[], Sum extends number = 0> = Shapes extends readonly [
  readonly [...Size[], infer C extends number],
  ...infer Rest extends readonly (readonly Size[])[],
]
  ? number extends C
    ? number
    : ChannelSum<Rest, Add<Sum, C>>
  : Shapes extends readonly []
    ? Sum
    : number;

/** The size of a flattened feature map: height * width * channels. */
export type Product<H extends Size, W extends Size, C extends Size> = H extends number
  ? W extends number
    ? C extends number
      ? number extends H | W | C
        ? number
        : Multiply<Multiply<H, W>, C>
      : never
    : never
  : never;

/** The number of values in a shape. */
export type Volume<S extends Shape> = S extends MapShape ? Product<S[0], S[1], S[2]> : S[0];

/** Run-time sizes under the types that the compiler computed for them; both follow the same formulas. */
export function typed<T extends readonly Size[] | Size>(sizes: readonly number[] | number): T {
  return sizes as T;
}

/** As many lists of numbers as a type says; whoever makes them counts them. */
export type Lists<N extends number> = readonly (readonly number[])[] & { readonly length: N };

/** The first lists of some, under the type of their number. */
export function firstLists<N extends number>(lists: readonly (readonly number[])[], count: N): Lists<N> {
  return lists.slice(0, count) as readonly (readonly number[])[] as Lists<N>;
}
