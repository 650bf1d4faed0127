/**
 * A small network in VGG's manner for CIFAR-10: stacked 3 x 3 convolutions with batch normalisation, between halvings of
 * the map. Those of 64 channels and more take Winograd's algorithm in all three passes where it is allowed.
 */

import { input, model } from "../src/index.js";

export default model(
  input(32, 32, 3),
  (x) =>
    x
      .conv(32, 3, { padding: "same", bias: false })
      .batchNorm()
      .relu()
      .maxPool(2)
      .conv(64, 3, { padding: "same", bias: false })
      .batchNorm()
      .relu()
      .conv(64, 3, { padding: "same", bias: false })
      .batchNorm()
      .relu()
      .maxPool(2)
      .conv(128, 3, { padding: "same", bias: false })
      .batchNorm()
      .relu()
      .conv(128, 3, { padding: "same", bias: false })
      .batchNorm()
      .relu()
      .globalAvgPool()
      .flatten()
      .dense(10),
  { name: "cifar10-vgg" },
);
