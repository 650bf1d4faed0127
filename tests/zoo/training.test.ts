import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { foveaJson } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallCifar10 } from "../support/files.js";

const directory = temporaryDirectory();
const data = `cifar10:${smallCifar10(join(directory, "cifar10"))}`;
const sizes = ["--input", "32x32x3", "--classes", "10"];
const options = ["--batch", "4", "--steps", "4", "--augment", "crop:4,flip,normalize:cifar10"];

test.each(["mobilenet-0.25", "googlenet-torchvision", "resnet20"])(
  "%s trains on images of CIFAR-10 to the same losses and bytes on 1 and 2 threads",
  async (network) => {
    const run = async (threads: string) => {
      const path = join(directory, `${network}-${threads}`);
      const size = network === "resnet20" ? [] : sizes;
      await foveaJson(["train", network, "--data", data, ...size, ...options, "--threads", threads, "--out", path]);
      const lines = readFileSync(join(path, "metrics.jsonl"), "utf8").trimEnd().split("\n");
      const losses = lines.map((line) => JSON.parse(line)).map(({ loss, trainLoss }) => loss ?? trainLoss);
      return { losses, weights: readFileSync(join(path, "model.safetensors")) };
    };
    const [one, two] = [await run("1"), await run("2")];
    expect(one.losses).toHaveLength(6); // four steps, and the ends of two epochs
    expect(two.losses).toEqual(one.losses);
    expect(two.weights.equals(one.weights)).toBe(true);
  },
  60_000,
);
