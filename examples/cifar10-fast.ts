/**
 * A residual network of nine layers for CIFAR-10.
 *
 *     npm run example:cifar10
 *
 * is `fovea train examples/cifar10-fast.ts --recipe cifar-fast --data cifar10 --out runs/cifar10-fast`. The network is the
 * one with which David Page won DAWNBench in 2018 ("How to Train Your ResNet"), 6.6 million parameters. Maps shrink
 * early and widen fast, so that nearly all work is 3 x 3 convolutions of 64 channels and more, which Winograd's
 * algorithm makes cheap. The scores are made small at the end, so that the first steps do not go astray.
 */
import { type FeatureMap, input, model } from "fovea";

type AnyMap = FeatureMap<number, number, number>;

/** [h, w, c] -> [h, w, filters] */
function convolution(x: AnyMap, filters: number): AnyMap {
  return x.conv(filters, 3, { padding: "same", bias: false }).batchNorm().relu();
}

/** [h, w, c] -> [h / 2, w / 2, filters] */
function halving(x: AnyMap, filters: number): AnyMap {
  return convolution(x, filters).maxPool(2);
}

/** Two convolutions around which the map is led: the shape stays. */
function residual(x: AnyMap): AnyMap {
  const [, , filters] = x.shape;
  return convolution(convolution(x, filters), filters).add(x);
}

export default model(
  input(32, 32, 3),
  (image) => {
    const first = residual(halving(convolution(image, 64), 128)); // [16, 16, 128]
    const last = residual(halving(halving(first, 256), 512)); // [4, 4, 512]
    return last
      .maxPool(4)
      .flatten()
      .dense(10)
      .affine(1 / 8);
  },
  { name: "cifar10-fast" },
);
