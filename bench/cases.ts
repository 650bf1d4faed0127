/** What is measured: the networks at the batch sizes that people train them with here, and the kinds of step. */

export interface Network {
  /** Its name in the zoo and in peers/models.py. */
  readonly name: string;
  /** Images of a training step, and of a call that infers a batch. */
  readonly batch: number;
}

export const networks: readonly Network[] = [
  { name: "lenet5", batch: 64 },
  { name: "alexnet-torchvision", batch: 32 },
  { name: "googlenet-torchvision", batch: 16 },
  { name: "resnet18", batch: 16 },
  { name: "resnet50", batch: 16 },
  { name: "mobilenet", batch: 16 },
];

export const modes = ["train", "infer", "single"] as const;

/** A training step, inference of a batch, inference of a single image. */
export type Mode = (typeof modes)[number];

export const modeTitles: Readonly<Record<Mode, string>> = {
  train: "training step",
  infer: "inference, batch",
  single: "inference, one image",
};

/** One line of the result. */
export interface Case {
  readonly network: string;
  readonly mode: Mode;
  readonly batch: number;
}

/** Every mode of every network, the networks one after another. */
export function casesOf(networks: readonly Network[], modes: readonly Mode[]): Case[] {
  return networks.flatMap(({ name, batch }) =>
    modes.map((mode) => ({ network: name, mode, batch: mode === "single" ? 1 : batch })),
  );
}
