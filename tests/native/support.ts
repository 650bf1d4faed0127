import { Dataset, Session, type SessionOptions, type TrainRequest } from "../../src/native.js";
import { lenet5 } from "../../src/zoo/lenet.js";

/** LeNet-5's definition, as a session takes it. */
export const graph = JSON.stringify(lenet5().definition);

export function lenet(options: Partial<SessionOptions> = {}): Session {
  return new Session({ graph, seed: 1, ...options });
}

/** Bytes in the shape of MNIST that follow from their position, and labels that follow from the images. */
export function digits(count: number): Dataset {
  const labels = Uint32Array.from({ length: count }, (_, image) => image % 10);
  const images = Uint8Array.from({ length: count * 784 }, (_, index) => {
    const image = Math.floor(index / 784);
    return ((index % 784) * 7 + (image % 10) * 31 + (image % 13)) % 256;
  });
  return Dataset.fromArrays(images, [count, 28, 28, 1], labels);
}

/** A run of so many steps of 64 images. */
export function steps(count: number, request: Partial<TrainRequest> = {}): TrainRequest {
  return {
    batchSize: 64,
    firstStep: 0,
    learningRates: new Float64Array(count).fill(0.01),
    optimizer: { kind: "sgd", momentum: 0.9, nesterov: false, weightDecay: 0, labelSmoothing: 0 },
    shuffle: true,
    dropLast: false,
    seed: 1,
    ...request,
  };
}
