import { expect, expectTypeOf, test } from "vitest";
import { concat } from "../../src/model/concat.js";
import { type FeatureMap, input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import type { Size } from "../../src/model/shape.js";
import { googlenet, mobilenet, resnet152 } from "../../src/zoo/index.js";

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

test("a depthwise convolution keeps the channels, a separable one has its filters", () => {
  same(input(112, 112, 64).depthwiseConv(3, { stride: 2, padding: 1 }), [56, 56, 64]);
  same(input(28, 28, 8).depthwiseConv([3, 5], { dilation: 2 }), [24, 20, 8]);
  same(input(112, 112, 64).separableConv(128, 3, { stride: 2, padding: 1 }), [56, 56, 128]);
  same(input(28, 28, 8).separableConv(16, 3), [26, 26, 16]);
});

test("global and adaptive pooling give the size that is asked for", () => {
  same(input(7, 5, 512).globalAvgPool(), [1, 1, 512]);
  same(input(7, 5, 512).globalAvgPool().flatten(), [512]);
  same(input(12, 12, 256).adaptiveAvgPool(6), [6, 6, 256]);
  same(input(6, 6, 256).adaptiveAvgPool(6), [6, 6, 256]);
  same(input(12, 20, 4).adaptiveAvgPool([3, 5]), [3, 5, 4]);
  same(input(14, 14, 512).adaptiveAvgPool(4), [4, 4, 512]);
  same(input(14, 3, 8).adaptiveAvgPool([4, 7]), [4, 7, 8]);
  same(input(7, 5, 512).globalMaxPool(), [1, 1, 512]);
  const side: number = 12;
  same(input(side, side, 4).adaptiveAvgPool(6), [6, 6, 4]);
});

test("a transposed convolution's size undoes a convolution's", () => {
  const x = input(7, 5, 8);
  same(x.convTranspose(4, 3), [9, 7, 4]);
  same(x.convTranspose(4, 4, { stride: 2, padding: 1 }), [14, 10, 4]);
  same(x.convTranspose(4, 3, { stride: 2, padding: 1, outputPadding: 1 }), [14, 10, 4]);
  same(x.convTranspose(4, [2, 3], { stride: [3, 1], dilation: [2, 1], padding: [1, 0, 0, 2] }), [20, 5, 4]);
  same(x.convTranspose(4, 3, { stride: 2, outputPadding: [0, 1] }), [15, 12, 4]);
  same(x.convTranspose(4, 3, { stride: 2, padding: "same" }), [14, 10, 4]);
  same(x.convTranspose(4, 5, { padding: "same", groups: 4 }), [7, 5, 4]);
  const side: number = 7;
  expectTypeOf(input(side, 5, 8).convTranspose(4, 2, { stride: 2 }).shape).toEqualTypeOf<readonly [number, 10, 4]>();
  function keep<H extends number, W extends number, C extends number>(y: FeatureMap<H, W, C>): FeatureMap<H, W, C> {
    return y.convTranspose(y.shape[2], 3, { padding: "same" });
  }
  same(keep(x), [7, 5, 8]);
});

test("distances from codes are as many as the codes", () => {
  same(
    image
      .flatten()
      .dense(2)
      .radialBasis([
        [1, -1],
        [-1, 1],
        [1, 1],
      ]),
    [3],
  );
});

test("enlarging multiplies height and width", () => {
  same(input(7, 5, 8).upsample(2), [14, 10, 8]);
  same(input(7, 5, 8).upsample([1, 3]), [7, 15, 8]);
});

test("padding adds to height, width and channels", () => {
  same(image.pad(2), [32, 32, 1]);
  same(image.pad([1, 2, 3, 4]), [32, 34, 1]);
  same(image.pad(0, { channels: [0, 15] }), [28, 28, 16]);
  same(image.pad([0, 1, 0, 1], { channels: [1, 2] }), [28, 30, 4]);
});

test("a sum has its parts' shape", () => {
  same(image.add(image.conv(1, 3, { padding: "same" })), [28, 28, 1]);
  same(image.flatten().dense(10).add(image.flatten().dense(10)), [10]);
  const side: number = 28;
  const x = input(side, 28, 1);
  const literal = x.adaptiveAvgPool(28);
  expectTypeOf(x.add(literal).shape).toEqualTypeOf<readonly [number, 28, 1]>();
  expect(x.add(literal).shape).toEqual([28, 28, 1]);
});

test("differences, products and quotients have the shape of their first part", () => {
  const x = image.conv(6, 3);
  same(x.subtract(x.relu()), [26, 26, 6]);
  same(x.divide(x.sigmoid()).multiply(x), [26, 26, 6]);
  same(x.multiply(x.globalAvgPool()), [26, 26, 6]);
  same(x.multiply(x.globalAvgPool().flatten().dense(6)), [26, 26, 6]);
  const vector = image.flatten().dense(10);
  same(vector.multiply(vector).divide(vector).subtract(vector), [10]);
});

test("a concatenation has the sum of its parts' channels", () => {
  same(concat([image, image]), [28, 28, 2]);
  same(concat([image.conv(6, 5), image.conv(10, 5), image.maxPool(5, { stride: 1 })]), [24, 24, 17]);
  same(concat([image.flatten().dense(3), image.flatten()]), [787]);
  const filters: number = 4;
  const wide = concat([image, image.conv(filters, 1)]);
  expectTypeOf(wide.shape).toEqualTypeOf<readonly [28, 28, number]>();
  expect(wide.shape).toEqual([28, 28, 5]);
  const [first, ...rest] = [image.conv(2, 1), image.conv(2, 1), image.conv(2, 1)] as const;
  const others: FeatureMap<28, 28, 2>[] = [...rest];
  const many = concat([first, ...others]);
  expectTypeOf(many.shape).toEqualTypeOf<readonly [28, 28, number]>();
  expect(many.shape).toEqual([28, 28, 6]);
});

test("normalisation, dropout and activations keep a shape, of vectors too", () => {
  const x = image.conv(6, 5);
  same(x.batchNorm().relu6().leakyRelu({ slope: 0.2 }).sigmoid().dropout(0.5).localResponseNorm(5), [24, 24, 6]);
  same(x.groupNorm(2).layerNorm({ epsilon: 1e-6 }).silu().gelu(), [24, 24, 6]);
  same(x.flatten().dense(8).groupNorm(4).layerNorm().silu().gelu(), [8]);
  same(x.flatten().dense(8).batchNorm().relu6().leakyRelu().sigmoid().dropout(0.2), [8]);
  same(x.prelu().clip(-1, 1).hardSigmoid().hardSwish().affine(2, 1).scale().logSoftmax(), [24, 24, 6]);
  same(x.flatten().dense(8).prelu().clip(0, 1).hardSigmoid().hardSwish().affine(2).scale().logSoftmax(), [8]);
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

test("residual and inception blocks generic in their sizes need no casts", () => {
  function residual<H extends number, W extends number, C extends number>(x: FeatureMap<H, W, C>): FeatureMap<H, W, C> {
    const y = x.conv(x.shape[2], 3, { padding: "same", bias: false }).batchNorm().relu();
    return y.conv(x.shape[2], 3, { padding: "same", bias: false }).batchNorm().add(x).relu();
  }
  function inception<H extends number, W extends number, C extends number>(x: FeatureMap<H, W, C>) {
    const three = x.conv(96, 1, { padding: "same" }).relu().conv(128, 3, { padding: "same" }).relu();
    const pooled = x.maxPool(3, { stride: 1, padding: "same" }).conv(32, 1, { padding: "same" });
    return concat([x.conv(64, 1, { padding: "same" }), three, pooled]);
  }
  same(residual(residual(inception(residual(input(28, 28, 192))))), [28, 28, 224]);
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

test("auxiliary heads leave a model's output type alone", () => {
  const supervised = model(image, (x) => {
    const early = x.conv(6, 5).relu();
    const output = early.globalAvgPool().flatten().dense(10);
    return { output, auxiliary: [{ output: early.flatten().dense(10), lossWeight: 0.3 }] };
  });
  expectTypeOf(supervised.outputShape).toEqualTypeOf<readonly [10]>();
  expect(supervised.outputShape).toEqual([10]);
});

test("the zoo's networks have literal input and output types", () => {
  expectTypeOf(resnet152).toBeCallableWith({ input: [64, 64, 3], classes: 10 });
  const small = resnet152({ input: [32, 48, 3], classes: 7 });
  expectTypeOf(small.inputShape).toEqualTypeOf<readonly [32, 48, 3]>();
  expectTypeOf(small.outputSize).toEqualTypeOf<7>();
  expect([small.inputShape, small.outputSize]).toEqual([[32, 48, 3], 7]);
  expectTypeOf(googlenet().inputShape).toEqualTypeOf<readonly [224, 224, 3]>();
  expectTypeOf(googlenet().outputSize).toEqualTypeOf<1000>();
  expectTypeOf(mobilenet({ width: 0.5 }).outputSize).toEqualTypeOf<1000>();
});
