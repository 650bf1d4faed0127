import { expect, expectTypeOf, test } from "vitest";
import { type FeatureMap, input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import type { Size } from "../../src/model/shape.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles only if the compiler has computed exactly these sizes, and holds only if the program has, too. */
function same<const A extends readonly number[], const B extends readonly number[]>(
  actual: { readonly shape: A },
  expected: Equal<A, B> extends true ? B : never,
): void {
  expect(actual.shape).toEqual(expected);
}

const image = input(28, 28, 1);

test("a convolution's size follows from kernel, stride, padding and dilation", () => {
  same(image.conv(6, 5), [24, 24, 6]);
  same(image.conv(6, 5, { padding: "same" }), [28, 28, 6]);
  same(image.conv(6, 5, { padding: "valid", stride: 2 }), [12, 12, 6]);
  same(image.conv(6, 5, { padding: 2 }), [28, 28, 6]);
  same(image.conv(6, 3, { padding: "same", stride: 3 }), [10, 10, 6]);
  same(image.conv(6, 3, { dilation: 2 }), [24, 24, 6]);
  same(input(224, 224, 3).conv(64, 7, { stride: 2, padding: 3 }), [112, 112, 64]);
  same(input(227, 227, 3).conv(96, 11, { stride: 4 }), [55, 55, 96]);
});

test("kernel, stride, dilation and padding may differ in height and width", () => {
  same(image.conv(6, [3, 5]), [26, 24, 6]);
  same(image.conv(6, [1, 7], { padding: [0, 3, 0, 3] }), [28, 28, 6]);
  same(image.conv(6, 3, { padding: [1, 0, 2, 0] }), [29, 26, 6]);
  same(image.conv(6, 3, { stride: [2, 1], padding: "same" }), [14, 28, 6]);
  same(image.conv(6, 3, { dilation: [1, 4] }), [26, 20, 6]);
  same(input(10, 20, 3).maxPool([2, 5]), [5, 4, 3]);
});

test("groups that divide channels and filters leave the sizes alone", () => {
  same(input(27, 27, 96).conv(256, 5, { padding: 2, groups: 2 }), [27, 27, 256]);
  same(input(14, 14, 32).conv(32, 3, { groups: 32, padding: "same" }), [14, 14, 32]);
});

test("pooling rounds down, and in ceil mode up unless a window would begin beyond the input", () => {
  same(input(55, 55, 96).maxPool(3, { stride: 2 }), [27, 27, 96]);
  same(input(112, 112, 64).maxPool(3, { stride: 2 }), [55, 55, 64]);
  same(input(112, 112, 64).maxPool(3, { stride: 2, ceilMode: true }), [56, 56, 64]);
  same(input(5, 6, 1).avgPool(2, { ceilMode: true }), [3, 3, 1]);
  same(input(5, 5, 1).avgPool(2, { ceilMode: true, padding: 1 }), [3, 3, 1]);
  same(input(5, 5, 1).maxPool(1, { stride: 3, ceilMode: true }), [2, 2, 1]);
  same(input(7, 7, 1).maxPool(2, { stride: 2, padding: "same", ceilMode: true }), [4, 4, 1]);
  same(image.maxPool(3, { stride: 1, padding: 1 }), [28, 28, 1]);
});

test("activations keep a shape, flatten multiplies it, dense replaces it", () => {
  same(image.conv(6, 5).relu().tanh().softmax(), [24, 24, 6]);
  same(image.flatten(), [784]);
  same(input(224, 224, 64).flatten(), [3211264]);
  same(image.flatten().dense(120).relu().tanh().softmax(), [120]);
  expectTypeOf(image.flatten().dense(10).size).toEqualTypeOf<10>();
});

test("sizes known only at run time widen to number, each on its own", () => {
  const side: number = 32;
  const x = input(side, 28, 3);
  expectTypeOf(x.conv(8, 5).shape).toEqualTypeOf<readonly [number, 24, 8]>();
  expect(x.conv(8, 5).shape).toEqual([28, 24, 8]);
  expectTypeOf(x.conv(8, 5).flatten().size).toEqualTypeOf<number>();
  const kernel: number = 3;
  expectTypeOf(image.conv(8, kernel, { padding: "same" }).shape).toEqualTypeOf<readonly [28, 28, 8]>();
  expectTypeOf(image.conv(8, kernel).shape).toEqualTypeOf<readonly [number, number, 8]>();
  const pool = (ceilMode: boolean) => image.maxPool(3, { ceilMode });
  expectTypeOf(pool(true).shape).toEqualTypeOf<readonly [number, number, 1]>();
  same(image.maxPool(3, { ceilMode: true }), [10, 10, 1]);
});

test("a block generic in its sizes needs no casts and keeps literal sizes", () => {
  function shrink<H extends number, W extends number, C extends number, const F extends number>(
    x: FeatureMap<H, W, C>,
    filters: F,
  ) {
    return x.conv(filters, 3, { stride: 2, padding: 1 }).relu().conv(filters, 3, { padding: "same" }).relu().maxPool(2);
  }
  function keep<H extends number, W extends number, C extends number>(x: FeatureMap<H, W, C>): FeatureMap<H, W, C> {
    return x.conv(x.shape[2], 3, { padding: "same" }).relu();
  }
  same(keep(shrink(shrink(keep(input(64, 48, 3)), 16), 32)), [4, 3, 32]);
});

test("a map of literal sizes may stand where any sizes are taken", () => {
  const head = (x: FeatureMap<number, number, number>) => x.conv(8, 3).relu().flatten().dense(10);
  same(head(image), [10]);
  expectTypeOf(image).toExtend<FeatureMap<Size, Size, Size>>();
  expectTypeOf(image).not.toExtend<FeatureMap<28, 28, 3>>();
});

test("a model's input and output sizes are types", () => {
  const classifier = model(image, (x) => x.conv(6, 5).relu().maxPool(2).flatten().dense(10));
  expectTypeOf(classifier.inputShape).toEqualTypeOf<readonly [28, 28, 1]>();
  expectTypeOf(classifier.outputShape).toEqualTypeOf<readonly [10]>();
  expectTypeOf(classifier.outputSize).toEqualTypeOf<10>();
  const segmenter = model(image, (x) => x.conv(4, 3, { padding: "same" }));
  expectTypeOf(segmenter.outputShape).toEqualTypeOf<readonly [28, 28, 4]>();
  expectTypeOf(segmenter.outputSize).toEqualTypeOf<3136>();
  expect(segmenter.outputSize).toBe(3136);
});
