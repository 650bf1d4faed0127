/**
 * A training loop of one's own, for data that no loader knows:
 *
 *     npx tsx examples/own-loop.ts
 *
 * A network learns the direction of stripes. Batches are made as they are needed, `trainStep` learns from one, and the
 * learning rate falls in a straight line.
 */
import { adamw, input, model } from "fovea";

const side = 12;
const directions = 4;

const stripes = model(input(side, side, 1), (x) =>
  x.conv(8, 3).relu().maxPool(2).flatten().dense(32).relu().dense(directions),
);

/** Images of stripes in one of four directions, [count, side, side, 1], and the number of each direction. */
function batch(count: number, random: () => number): { images: Float32Array; targets: Uint32Array } {
  const targets = Uint32Array.from({ length: count }, () => Math.floor(random() * directions));
  const images = new Float32Array(count * side * side);
  for (const [image, direction] of targets.entries()) {
    const angle = (direction * Math.PI) / directions;
    const phase = random() * 2 * Math.PI;
    for (let pixel = 0; pixel < side * side; pixel += 1) {
      const along = Math.cos(angle) * (pixel % side) + Math.sin(angle) * Math.floor(pixel / side);
      images[image * side * side + pixel] = 0.5 + 0.5 * Math.sin(1.6 * along + phase) + 0.3 * (random() - 0.5);
    }
  }
  return { images, targets };
}

/** A small generator of numbers from 0 to 1, so that every run is the same. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const random = generator(1);
const optimizer = adamw({ weightDecay: 0.05, noDecay: "norm-and-bias" });
const steps = 300;
for (let step = 0; step < steps; step += 1) {
  const learningRate = 0.003 * (1 - step / steps);
  const { loss, correct } = await stripes.trainStep(batch(32, random), {
    optimizer,
    learningRate,
    clipNorm: 1,
    ema: 0.98,
  });
  if (step % 100 === 99) console.log(`step ${step + 1}  loss ${loss.toFixed(3)}  ${correct} of 32 right`);
}

const { images, targets } = batch(500, random);
const scores = await stripes.predict(images, { averaged: true });
const right = scores.filter((row, image) => row.indexOf(Math.max(...row)) === targets[image]).length;
console.log(`${((100 * right) / targets.length).toFixed(1)} % of new images`);
await stripes.close();
