import { FoveaError, invalidArgument } from "../errors.js";
import { Dataset } from "../native.js";

/** One image of a user's own data. */
export interface Sample {
  /** `height x width x channels` values in row order: bytes, scaled to 0..1, or floats as they are. */
  readonly image: Uint8Array | Float32Array;
  /** A class index. */
  readonly label: number;
}

/** Samples from anywhere: an array, a generator, an async generator that waits for a disk or a network. */
export type Samples = Iterable<Sample> | AsyncIterable<Sample>;

/** Several samples, one after another in the arrays. */
export interface SampleBatch {
  /** `count x height x width x channels` values, of the type that the images have. */
  readonly images: Uint8Array | Float32Array;
  readonly labels: Uint32Array;
}

/** Options of {@link batches}. */
export interface BatchesOptions {
  /** Images of a batch; the last one may have fewer. Default 64. */
  readonly batchSize?: number | undefined;
  /** Leaves out the last batch when it has fewer. Default false. */
  readonly dropLast?: boolean | undefined;
}

/** Options of {@link fromIterable}. */
export interface FromIterableOptions {
  /** `[height, width, channels]` of every image. */
  readonly shape: readonly [number, number, number];
  /** Number of classes. Default: the largest label and one. */
  readonly classes?: number | undefined;
}

/**
 * Puts samples together to batches, as a loop of one's own wants them; only one batch is held at a time.
 *
 * @throws FoveaError `INVALID_DATA` when images differ in type or length, `INVALID_ARGUMENT` for a label that is no class
 * index
 * @example
 * ```ts
 * import { datasets } from "fovea";
 *
 * async function* camera() {
 *   for (let picture = 0; picture < 6; picture++) yield { image: new Float32Array(64), label: picture % 2 };
 * }
 * const sizes: number[] = [];
 * for await (const { labels } of datasets.batches(camera(), { batchSize: 4 })) sizes.push(labels.length);
 * console.log(sizes); // [ 4, 2 ]
 * ```
 */
export async function* batches(
  samples: Samples,
  { batchSize = 64, dropLast = false }: BatchesOptions = {},
): AsyncGenerator<SampleBatch, void, void> {
  if (!(Number.isSafeInteger(batchSize) && batchSize > 0)) {
    throw invalidArgument("batchSize", "a positive whole number", batchSize);
  }
  const collected: Sample[] = [];
  let index = 0;
  for await (const sample of samples) {
    collected.push(checked(sample, collected[0], index++));
    if (collected.length === batchSize) yield together(collected.splice(0));
  }
  if (collected.length > 0 && !dropLast) yield together(collected);
}

/**
 * Collects samples in memory: a data set that can be shuffled, split and read many times.
 *
 * @param samples any iterable or async iterable of `{ image, label }`
 * @param options `shape` of the images, `classes`
 * @throws FoveaError `INVALID_DATA` when images differ in type, do not have the shape, or there is none
 */
export async function fromIterable(samples: Samples, { shape, classes }: FromIterableOptions): Promise<Dataset> {
  const all: SampleBatch[] = [];
  for await (const batch of batches(samples, { batchSize: 256 })) all.push(batch);
  const [first] = all;
  if (first === undefined) throw new FoveaError("INVALID_DATA", "Expected at least 1 image but received 0.");
  const { images, labels } = joined(all, first.images);
  return Dataset.fromArrays(images, [labels.length, ...shape], labels, classes);
}

function checked(sample: Sample, first: Sample | undefined, index: number): Sample {
  const { image, label } = sample;
  if (!(image instanceof Uint8Array || image instanceof Float32Array)) {
    throw invalidArgument(`samples[${index}].image`, "a Uint8Array or Float32Array", typeof image);
  }
  if (!(Number.isInteger(label) && label >= 0 && label < 2 ** 32)) {
    throw invalidArgument(`samples[${index}].label`, "a class index", label);
  }
  if (first !== undefined && describe(first.image) !== describe(image)) {
    const expected = `${describe(first.image)} as in the images before`;
    throw new FoveaError(
      "INVALID_DATA",
      `Expected ${expected} for "samples[${index}].image" but received ${describe(image)}.`,
    );
  }
  return sample;
}

const describe = (values: Uint8Array | Float32Array): string =>
  `${values.length} ${values instanceof Uint8Array ? "bytes" : "floats"}`;

function together(samples: readonly Sample[]): SampleBatch {
  const [{ image } = { image: new Uint8Array() }] = samples;
  const images = emptyLike(image, image.length * samples.length);
  samples.forEach(({ image }, index) => {
    images.set(image, index * image.length);
  });
  return { images, labels: Uint32Array.from(samples, ({ label }) => label) };
}

function joined(batches: readonly SampleBatch[], first: Uint8Array | Float32Array): SampleBatch {
  const sum = (of: (batch: SampleBatch) => number): number => batches.reduce((total, batch) => total + of(batch), 0);
  const images = emptyLike(
    first,
    sum(({ images }) => images.length),
  );
  const labels = new Uint32Array(sum(({ labels }) => labels.length));
  let [at, label] = [0, 0];
  for (const batch of batches) {
    if (batch.images.constructor !== images.constructor) {
      throw new FoveaError("INVALID_DATA", "Expected all images as bytes or all as floats but received both.");
    }
    images.set(batch.images, at);
    labels.set(batch.labels, label);
    at += batch.images.length;
    label += batch.labels.length;
  }
  return { images, labels };
}

function emptyLike(values: Uint8Array | Float32Array, length: number): Uint8Array | Float32Array {
  return values instanceof Uint8Array ? new Uint8Array(length) : new Float32Array(length);
}
