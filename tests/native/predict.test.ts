import { expect, test } from "vitest";
import { input } from "../../src/model/feature-map.js";
import { model } from "../../src/model/model.js";
import { relativeError } from "../support/golden.js";
import { uniform } from "../support/recipe.js";
import { digits, lenet, steps } from "./support.js";

const image = 784;

test("any number of images is predicted, each as if it were alone", async () => {
  const session = lenet();
  const images = uniform("images", 300 * image);
  const all = await session.predict(images, 300);
  for (const count of [1, 2, 3, 7, 31, 33, 100, 257, 300]) {
    const scores = await session.predict(images.subarray(0, count * image), count);
    expect(scores.length).toBe(10 * count);
    expect(relativeError(scores, all.subarray(0, 10 * count))).toBeLessThan(1e-6);
  }
  await session.close();
});

test("a hundred calls at once wait for one another, and each is answered with its own", async () => {
  const session = lenet();
  const images = uniform("images", 100 * image);
  const sizes = Array.from({ length: 100 }, (_, call) => 1 + (call % 5));
  const ask = (call: number, count: number) =>
    session.predict(images.subarray((call % 95) * image, ((call % 95) + count) * image), count);
  const alone: Float32Array[] = [];
  for (const [call, count] of sizes.entries()) alone.push(await ask(call, count));
  const together = await Promise.all(sizes.map((count, call) => ask(call, count)));
  expect(together).toEqual(alone);
  await session.close();
});

test("predictions between runs of training see the weights of their turn", async () => {
  const [mixed, plain, data] = [lenet(), lenet(), digits(128)];
  const x = uniform("images", 3 * image);
  const [first, , second, , third] = await Promise.all([
    mixed.predict(x, 3),
    mixed.trainSteps(data, steps(2)),
    mixed.predict(x, 3),
    mixed.trainSteps(data, steps(3, { firstStep: 2 })),
    mixed.predict(x, 3),
  ]);
  expect(await plain.predict(x, 3)).toEqual(first);
  await plain.trainSteps(data, steps(2));
  expect(await plain.predict(x, 3)).toEqual(second);
  await plain.trainSteps(data, steps(3, { firstStep: 2 }));
  expect(await plain.predict(x, 3)).toEqual(third);
  expect(second).not.toEqual(first);
  expect(third).not.toEqual(second);
  await Promise.all([mixed.close(), plain.close()]);
});

test("a network with auxiliary heads predicts its first output alone", async () => {
  const headed = model(input(8, 8, 1), (x) => {
    const early = x.conv(4, 3).relu();
    const head = early.flatten().dense(3, { name: "head" });
    return {
      output: early.maxPool(2).flatten().dense(3, { name: "last" }),
      auxiliary: [{ output: head, lossWeight: 0.3 }],
    };
  });
  const scores = await headed.predict(uniform("images", 5 * 64));
  expect(scores.map((each) => each.length)).toEqual([3, 3, 3, 3, 3]);
  const alone = await Promise.all(
    Array.from({ length: 5 }, (_, at) => headed.predict(uniform("images", 5 * 64).subarray(at * 64, (at + 1) * 64))),
  );
  for (const [at, [score]] of alone.entries()) expect(relativeError(score ?? [], scores[at] ?? [])).toBeLessThan(1e-6);
  await headed.close();
});
