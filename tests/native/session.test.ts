import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FoveaError } from "../../src/errors.js";
import { AbortHandle, Dataset, describeGraph, describeNode, readNpy, Session, writeNpy } from "../../src/native.js";
import { temporaryDirectory } from "../support/directory.js";
import { digits, graph, lenet, steps } from "./support.js";

const directory = temporaryDirectory();

/** The code and sentence of what `call` throws, at once or later. */
async function failure(call: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await call();
  } catch (error) {
    if (error instanceof FoveaError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error("Expected an error but there was none.");
}

describe("a session", () => {
  test("says what it is made of", async () => {
    const session = lenet({ threads: 2, isa: "scalar" });
    expect([session.threads, session.isa, session.outputSize]).toEqual([2, "scalar", 10]);
    expect(session.parameters().slice(0, 2)).toEqual([
      { name: "conv1.weight", shape: [6, 1, 5, 5] },
      { name: "conv1.bias", shape: [6] },
    ]);
    await session.close();
  });

  test("learns, and evaluates what it learnt", async () => {
    const [session, data] = [lenet(), digits(640)];
    const before = await session.evaluate(data, 100);
    const result = await session.trainSteps(data, steps(100));
    const after = await session.evaluate(data, 100);
    expect(result).toMatchObject({ stopped: "done", losses: { length: 100 }, images: { length: 100 } });
    expect(after.loss).toBeLessThan(before.loss / 2);
    expect(after.images).toBe(640);
    expect(after.confusion.reduce((sum, count) => sum + count)).toBe(640);
    const diagonal = Array.from({ length: 10 }, (_, label) => after.confusion[label * 11] ?? 0);
    expect(diagonal.reduce((sum, count) => sum + count) / 640).toBe(after.accuracy);
    await session.close();
  });

  test("continues the same however a run of steps is cut, and on any number of threads", async () => {
    const data = digits(200);
    const [whole, cut] = [lenet({ threads: 1 }), lenet({ threads: 2 })];
    const { losses } = await whole.trainSteps(data, steps(10));
    const parts = [await cut.trainSteps(data, steps(3)), await cut.trainSteps(data, steps(7, { firstStep: 3 }))];
    expect(parts.flatMap((part) => [...part.losses])).toEqual([...losses]);
    expect(parts.flatMap((part) => [...part.images])).toEqual([64, 64, 64, 8, 64, 64, 64, 8, 64, 64]);
    const image = new Float32Array(784).fill(0.5);
    expect(await cut.predict(image, 1)).toEqual(await whole.predict(image, 1));
    await Promise.all([whole.close(), cut.close()]);
  });

  test("runs what is asked of it in order", async () => {
    const [session, data] = [lenet(), digits(64)];
    const order: number[] = [];
    const note = (index: number) => () => order.push(index);
    await Promise.all([
      session.trainSteps(data, steps(5)).then(note(0)),
      session.predict(new Float32Array(784), 1).then(note(1)),
      session.evaluate(data, 64).then(note(2)),
      session.explain("train", 4, false).then(note(3)),
    ]);
    expect(order).toEqual([0, 1, 2, 3]);
    await session.close();
  });

  test("copies an array it is given before the caller can change it", async () => {
    const session = lenet();
    const image = new Float32Array(784).fill(0.5);
    const expected = await session.predict(image, 1);
    const scores = session.predict(image, 1);
    image.fill(Number.NaN);
    expect(await scores).toEqual(expected);
    await session.close();
  });

  test("goes on from a checkpoint as if it had never stopped", async () => {
    const [first, second, data] = [lenet(), lenet({ seed: 2 }), digits(640)];
    await first.trainSteps(data, steps(5));
    const path = join(directory, "checkpoint.safetensors");
    const bytes = await first.saveCheckpoint(path, '{"epoch":1}');
    expect(bytes).toBeGreaterThan(2 * 4 * 61_706);
    expect(await second.loadCheckpoint(path)).toBe('{"epoch":1}');
    const rest = steps(5, { firstStep: 5 });
    expect((await second.trainSteps(data, rest)).losses).toEqual((await first.trainSteps(data, rest)).losses);
    await Promise.all([first.close(), second.close()]);
  });

  test("trains on batches of its caller's as on a data set, and goes on from a checkpoint of such a loop", async () => {
    const images = Uint8Array.from({ length: 64 * 784 }, (_, index) => (index * 7) % 256);
    const labels = Uint32Array.from({ length: 64 }, (_, image) => image % 10);
    const [own, other, data] = [lenet(), lenet(), Dataset.fromArrays(images, [64, 28, 28, 1], labels)];
    const optimizer = { kind: "adamw", weightDecay: 0.01, labelSmoothing: 0.1 };
    const update = { clipNorm: 1, accumulate: 2, ema: 0.9, frozen: ["conv1"] };
    const run = steps(6, { optimizer, shuffle: false, ...update });
    const { losses } = await other.trainSteps(data, run);
    const path = join(directory, "loop.safetensors");
    const request = { learningRate: 0.01, optimizer, ...update };
    const step = async (floats: boolean): Promise<number> => {
      const batch = floats ? Float32Array.from(images, (byte) => byte / 255) : images;
      return (await own.trainBatch(batch, labels, request)).loss;
    };
    expect([await step(false), await step(true), await step(false)]).toEqual([...losses.subarray(0, 3)]);
    await own.saveCheckpoint(path, "{}");
    await step(false);
    await own.loadCheckpoint(path);
    expect([await step(false), await step(true), await step(false)]).toEqual([...losses.subarray(3)]);
    const image = new Float32Array(784).fill(0.5);
    const averaged = await own.predict(image, 1, { averaged: true });
    expect(averaged).toEqual(await other.predict(image, 1, { averaged: true }));
    expect(averaged).not.toEqual(await own.predict(image, 1));
    await Promise.all([own.saveWeights(path, { averaged: true }), other.saveWeights(`${path}.own`)]);
    await other.loadWeights(path);
    expect(await other.predict(image, 1)).toEqual(averaged);
    await Promise.all([own.close(), other.close()]);
  });

  test("loads weights except those of another head", async () => {
    const path = join(directory, "pretrained.safetensors");
    const [pretrained, narrow] = [
      lenet({ seed: 2 }),
      new Session({ graph: graph.replace('"units":10', '"units":4'), seed: 1 }),
    ];
    await pretrained.saveWeights(path);
    expect((await failure(() => narrow.loadWeights(path))).message).toContain(
      '"fc3.weight" [10, 84] instead of [4, 84]',
    );
    await narrow.loadWeights(path, { except: ["fc3"] });
    expect((await failure(() => narrow.loadWeights(path, { except: ["fc9"] }))).code).toBe("INVALID_ARGUMENT");
    await Promise.all([pretrained.close(), narrow.close()]);
  });

  test("times steps and shows its plan", async () => {
    const session = lenet();
    const benchmark = await session.benchmark("infer", 1, 0.05);
    expect(benchmark.steps).toBeGreaterThan(0);
    expect(benchmark.minMs).toBeLessThanOrEqual(benchmark.medianMs);
    const plan = JSON.parse(await session.explain("train", 8, true));
    expect(plan.rows.length).toBeGreaterThan(12);
    expect(plan.rows.every((row: { milliseconds: number }) => row.milliseconds >= 0)).toBe(true);
    await session.close();
  });
});

describe("an abort", () => {
  test("stops training within a step, and the session goes on with what it learnt", async () => {
    const [session, data, handle] = [lenet(), digits(640), new AbortHandle()];
    const training = session.trainSteps(data, steps(1_000_000), handle);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const asked = performance.now();
    handle.abort();
    const { stopped, losses, seconds } = await training;
    const waited = performance.now() - asked;
    expect(stopped).toBe("aborted");
    expect(losses.length).toBeGreaterThan(0);
    // One step under way, and what the machine's other work delays.
    expect(waited).toBeLessThan((1000 * seconds) / losses.length + 250);
    expect((await session.trainSteps(data, steps(2, { firstStep: losses.length }))).stopped).toBe("done");
    await session.close();
  });

  test("stops what has its handle, in line and later too, and nothing else", async () => {
    const [session, data, handle] = [lenet(), digits(640), new AbortHandle()];
    const training = session.trainSteps(data, steps(1_000_000), handle);
    const waiting = failure(() => session.evaluate(data, 64, {}, handle));
    const others = [session.evaluate(data, 64), session.evaluate(data, 64, {}, new AbortHandle())];
    handle.abort();
    const later = await session.trainSteps(data, steps(5), handle);
    expect((await training).stopped).toBe("aborted");
    expect(await waiting).toEqual({ code: "ABORTED", message: "Expected the evaluation to end but it was aborted." });
    for (const other of others) expect((await other).images).toBe(640);
    expect(later).toMatchObject({ stopped: "aborted", losses: { length: 0 } });
    await session.close();
  });

  test("ends a benchmark early, with the steps it timed", async () => {
    const [session, handle] = [lenet(), new AbortHandle()];
    const benchmark = session.benchmark("train", 8, 600, handle);
    handle.abort();
    expect((await benchmark).steps).toBeGreaterThan(0);
    await session.close();
  });

  test("is what closing is to all that takes long", async () => {
    const [session, data] = [lenet(), digits(640)];
    const images = new Float32Array(20_000 * 784);
    const training = session.trainSteps(data, steps(1_000_000));
    const ended = [failure(() => session.evaluate(data, 1)), failure(() => session.predict(images, 20_000))];
    await session.close();
    expect((await training).stopped).toBe("aborted");
    for (const each of ended) expect((await each).code).toBe("CLOSED");
  });
});

test.each([
  ["sgd", "momentum"],
  ["rmsprop", "momentum"],
  ["lars", "momentum"],
  ["adam", "beta1"],
  ["adamw", "beta1"],
  ["lamb", "beta1"],
])("momenta of the steps take the place of %s's %s", async (kind, name) => {
  const data = digits(256);
  const losses = async (momentum: number, momenta?: readonly number[]): Promise<Float32Array> => {
    const session = lenet();
    const optimizer = { kind, weightDecay: 0, labelSmoothing: 0, [name]: momentum };
    const result = await session.trainSteps(
      data,
      steps(4, { optimizer, ...(momenta && { momenta: Float64Array.from(momenta) }) }),
    );
    await session.close();
    return result.losses;
  };
  const expected = await losses(0.8);
  expect(await losses(0.5, [0.8, 0.8, 0.8, 0.8])).toEqual(expected);
  expect(await losses(0.8, [0.8, 0.8, 0.5, 0.8])).not.toEqual(expected);
});

describe("an error", () => {
  test("of an option says which, and has the code INVALID_ARGUMENT", async () => {
    const [session, data] = [lenet(), digits(64)];
    const { optimizer } = steps(1);
    const rates = new Float64Array([0.1, Number.NaN]);
    const cases: [() => unknown, string][] = [
      [() => lenet({ threads: 0 }), 'Expected a positive whole number for "threads" but received 0.'],
      [() => lenet({ seed: 0.5 }), 'Expected a whole number of at least 0 for "seed" but received 0.5.'],
      [() => lenet({ isa: "mmx" }), 'but received "mmx".'],
      [() => lenet({ precision: "exact" }), 'Expected "fast" or "strict" for "precision" but received "exact".'],
      [() => session.trainSteps(data, steps(1, { batchSize: 0 })), 'for "batchSize" but received 0.'],
      [() => session.trainSteps(data, steps(1, { firstStep: -1 })), 'for "firstStep" but received -1.'],
      [() => session.trainSteps(data, steps(1, { seed: Number.NaN })), 'for "seed" but received NaN.'],
      [() => session.trainSteps(data, steps(1, { learningRates: rates })), '"learningRate" but received NaN.'],
      [
        () => session.trainSteps(data, steps(2, { momenta: new Float64Array(3) })),
        'Expected 2 numbers, one for each learning rate, for "momenta" but received 3.',
      ],
      [
        () => session.trainSteps(data, steps(1, { momenta: Float64Array.of(1) })),
        'Expected a number from 0 to below 1 for "momentum" but received 1.',
      ],
      [
        () => session.trainSteps(data, steps(1, { optimizer: { ...optimizer, kind: "newton" } })),
        'Expected "sgd", "adam", "adamw", "rmsprop", "lamb" or "lars" for "optimizer" but received "newton".',
      ],
      [
        () => session.trainSteps(data, steps(1, { optimizer: { ...optimizer, kind: "adam" } })),
        'Expected beta1, beta2, epsilon for adam for "optimizer" but received momentum.',
      ],
      [
        () => session.trainSteps(data, steps(1, { groups: [{ names: ["conv9.bias"] }] })),
        'for "groups.names" but received "conv9.bias".',
      ],
      [() => session.trainSteps(data, steps(1, { frozen: ["conv9"] })), 'for "frozen" but received "conv9".'],
      [() => session.trainSteps(data, steps(1, { clipNorm: 0 })), 'for "clipNorm" but received 0.'],
      [() => session.trainSteps(data, steps(1, { accumulate: 0.5 })), 'for "accumulate" but received 0.5.'],
      [() => session.trainSteps(data, steps(1, { ema: 1 })), 'for "ema" but received 1.'],
      [
        () => session.trainSteps(data, steps(1, { classWeights: Float32Array.of(1, 2) })),
        'Expected 10 weights for "classWeights" but received 2.',
      ],
      [() => session.evaluate(data, 64, { averaged: true }), 'for "averaged" but received true.'],
      [
        () => session.trainBatch(new Float32Array(784), Float32Array.of(1), { learningRate: 0.1, optimizer }),
        'Expected 10 values in "targets" for 1 images but received 1.',
      ],
      [
        () => session.trainSteps(data, steps(1, { optimizer: { ...optimizer, momentum: 1 } })),
        'for "momentum" but received 1.',
      ],
      [
        () => session.trainSteps(data, steps(1, { optimizer: { ...optimizer, weightDecay: Number.NaN } })),
        'for "weightDecay" but received NaN.',
      ],
      [() => session.trainSteps(data, steps(1, { dropLast: true, batchSize: 65 })), "dropLast"],
      [() => session.evaluate(data, Number.POSITIVE_INFINITY), 'for "batchSize" but received inf.'],
      [() => session.predict(new Float32Array(784), 2), '"images" for 2 images but received 784.'],
      [() => session.predict(new Float32Array(784), 2 ** 53 - 1), '"images" for 9007199254740991 images'],
      [() => session.explain("sleep", 1, false), 'for "mode" but received "sleep".'],
      [() => session.benchmark("train", 1, Number.NaN), 'for "seconds" but received NaN.'],
      [() => writeNpy(join(directory, "never"), new Float32Array(2), [0.5]), 'for "shape" but received 0.5.'],
    ];
    for (const [call, sentence] of cases) {
      const { code, message } = await failure(call);
      expect([code, message]).toEqual(["INVALID_ARGUMENT", expect.stringContaining(sentence)]);
    }
    expect(await readdir(directory)).not.toContain("never");
    await session.close();
  });

  test.each([
    ["INVALID_SHAPE", graph.replaceAll('"kernel":[5,5]', '"kernel":[99,5]')],
    ["INVALID_ARGUMENT", graph.replaceAll('"kernel":[5,5]', '"kernel":[0,5]')],
    ["INVALID_ARGUMENT", graph.replaceAll('"kernel":[5,5]', '"kernel":[0.5,5]')],
    ["INVALID_ARGUMENT", graph.replaceAll('"lossWeight":1', '"lossWeight":-1')],
    ["INVALID_GRAPH", graph.replaceAll('"inputs":["input"]', '"inputs":["elsewhere"]')],
    ["INVALID_GRAPH", "]"],
  ])("of a graph has the code %s", async (code, wrong) => {
    for (const door of [describeGraph, (graph: string) => new Session({ graph, seed: 1 })]) {
      expect((await failure(() => door(wrong))).code).toBe(code);
    }
  });

  test("of a layer's inputs, which are three sizes each, says so", async () => {
    const [layer] = JSON.parse(graph).nodes;
    const { code, message } = await failure(() => describeNode(JSON.stringify(layer), [28, 28]));
    expect([code, message]).toEqual(["INVALID_ARGUMENT", 'Expected three sizes for each for "inputs" but received 2.']);
    expect((await failure(() => describeNode(JSON.stringify(layer), [28, 28, 0]))).code).toBe("INVALID_ARGUMENT");
    expect((await failure(() => describeNode("{}", [28, 28, 1]))).code).toBe("INVALID_GRAPH");
  });

  test("of data has the code INVALID_DATA", async () => {
    const session = lenet();
    const images = new Uint8Array(2 * 784);
    const labels = Uint32Array.of(3, 10);
    const shape = [2, 28, 28, 1];
    const cases: [() => unknown, string][] = [
      [() => Dataset.fromArrays(images, [3, 28, 28, 1], labels), "received 1568"],
      [() => Dataset.fromArrays(images, shape, Uint32Array.of(1)), "received 1"],
      [() => Dataset.fromArrays(images, shape, labels, 10), "received 10 at index 1"],
      [() => Dataset.fromArrays(new Float32Array(1568).fill(Number.NaN), shape, labels), "received NaN"],
      [() => session.trainSteps(Dataset.fromArrays(images, shape, labels), steps(1)), "received 10"],
      [
        () => session.evaluate(Dataset.fromArrays(images, [2, 14, 56, 1], Uint32Array.of(1, 2)), 2),
        'Expected images of [28, 28, 1] for "lenet5" but received [14, 56, 1].',
      ],
    ];
    for (const [call, sentence] of cases) {
      const { code, message } = await failure(call);
      expect([code, message]).toEqual(["INVALID_DATA", expect.stringContaining(sentence)]);
    }
    await session.close();
  });

  test("of a file has the code IO or INVALID_DATA, and of its tensors INVALID_WEIGHTS", async () => {
    const session = lenet();
    const [none, text, weights] = ["none", "text", "weights"].map((name) => join(directory, name));
    if (none === undefined || text === undefined || weights === undefined) throw new Error("three paths");
    await writeFile(text, "not an array");
    expect((await failure(() => readNpy(none))).code).toBe("IO");
    expect((await failure(() => readNpy(text))).code).toBe("INVALID_DATA");
    expect((await failure(() => Dataset.fromIdx(none, none))).code).toBe("IO");
    expect((await failure(() => Dataset.fromNpy(text, text))).code).toBe("INVALID_DATA");
    expect((await failure(() => session.saveWeights(join(none, "weights")))).code).toBe("IO");
    expect((await failure(() => session.loadWeights(text))).code).toBe("INVALID_DATA");
    const smaller = new Session({ graph: graph.replace('"units":84', '"units":83'), seed: 1 });
    await smaller.saveWeights(weights);
    const { code, message } = await failure(() => session.loadWeights(weights));
    expect(code).toBe("INVALID_WEIGHTS");
    expect(message).toContain('"fc2.weight" [83, 120] instead of [84, 120]');
    expect((await failure(() => session.loadCheckpoint(weights))).code).toBe("INVALID_WEIGHTS");
    await Promise.all([session.close(), smaller.close()]);
  });

  test("of a loss that is no number tells the steps before it, names the step and leaves the session as it was", async () => {
    const [session, data] = [lenet(), digits(640)];
    const [before, after] = [join(directory, "before"), join(directory, "after")];
    const diverging = steps(9, { learningRates: new Float64Array(9).fill(1e30) });
    const expected = { stopped: "failed", failure: expect.stringContaining("at step 2 ") };
    const first = await session.trainSteps(data, diverging);
    expect(first).toMatchObject(expected);
    expect([first.losses.length, first.correct.length, first.images.length]).toEqual([1, 1, 1]);
    await session.saveWeights(before);
    const second = await session.trainSteps(data, diverging);
    expect(second).toMatchObject(expected);
    expect(second.losses).toHaveLength(0);
    await session.saveWeights(after);
    expect(await readFile(after)).toEqual(await readFile(before));
    await session.close();
  });

  test("of a closed session has the code CLOSED, and closing twice is none", async () => {
    const session = lenet();
    await Promise.all([session.close(), session.close()]);
    expect((await failure(() => session.predict(new Float32Array(784), 1))).code).toBe("CLOSED");
    expect((await failure(() => session.trainSteps(digits(64), steps(1)))).code).toBe("CLOSED");
  });

  test("of an argument of another type is a FoveaError too", async () => {
    expect((await failure(() => Reflect.apply(readNpy, undefined, [7]))).code).toBe("INVALID_ARGUMENT");
    expect((await failure(() => Reflect.construct(Session, [{}]))).code).toBe("INVALID_ARGUMENT");
    expect((await failure(() => Reflect.apply(Dataset.fromArrays, Dataset, ["", [], ""]))).code).toBe(
      "INVALID_ARGUMENT",
    );
  });
});

test("arrays of every NumPy type arrive in the typed array of that type", async () => {
  const path = join(directory, "x.npy");
  await writeNpy(path, Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
  expect(await readNpy(path)).toEqual({ shape: [2, 3], dtype: "float32", data: Float32Array.of(1, 2, 3, 4, 5, 6) });
  const header = "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }\n";
  const bytes = [...Buffer.from("\x93NUMPY\x01\x00", "latin1"), header.length, 0, ...Buffer.from(header)];
  await writeFile(path, Uint8Array.from([...bytes, ...new Uint8Array(BigInt64Array.of(-1n, 1n << 40n).buffer)]));
  expect((await readNpy(path)).data).toEqual(BigInt64Array.of(-1n, 1n << 40n));
});
