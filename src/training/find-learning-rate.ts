import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkedOptions } from "../arguments.js";
import { FoveaError, invalidArgument } from "../errors.js";
import type { Dataset, Session } from "../native.js";
import { exclusively } from "./exclusive.js";
import type { FitOptions } from "./fit-options.js";
import { prepareSteps } from "./steps.js";
import { sessionOf, type Trained } from "./trained.js";

/** Options of {@link findLearningRate}: those of `fit` that say what a step is, and the range. */
export interface FindLearningRateOptions
  extends Omit<
    FitOptions,
    "epochs" | "steps" | "validation" | "monitor" | "patience" | "resume" | "saveEvery" | "callbacks"
  > {
  /** Where the search begins. Default 1e-6. */
  readonly lowest?: number;
  /** Where it ends at the latest. Default 10. */
  readonly highest?: number;
  /** Steps from the one to the other, of which the last are not made once the loss has exploded. Default 100. */
  readonly tries?: number;
}

/** How the loss took a rising learning rate. */
export interface LearningRateSearch {
  /** A tenth of the rate at which the loss was lowest. */
  readonly suggestion: number;
  readonly points: readonly LearningRatePoint[];
}

export interface LearningRatePoint {
  readonly learningRate: number;
  /** The mean over the step's batch, averaged over about ten steps before. */
  readonly loss: number;
}

/** Of the losses before, in their running mean. */
const memory = 0.9;
/** The loss has exploded when it is so many times its lowest. */
const explosion = 4;

/**
 * Finds a learning rate to begin with: trains for some steps while the rate rises by the same factor each, until the loss
 * explodes. A tenth of the rate with the lowest loss is a good one, or a good highest one of `oneCycle` and `cosine`. The
 * model's weights and optimizer state are afterwards what they were before.
 *
 * @param model what is to be trained
 * @param train images and labels
 * @param options `lowest` (1e-6), `highest` (10), `tries` (100), and of `fit`: `optimizer` (its learning rate does not
 * matter), `batchSize` (64) and others
 * @returns the suggestion, and the loss at every rate
 * @throws FoveaError `NOT_FINITE` when there is no loss even at the lowest rate, `ABORTED` by `signal`, `BUSY`
 * while something else trains the model
 * @see Smith 2015, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3
 * @example
 * ```ts
 * import { cosine, datasets, findLearningRate, sgd, zoo } from "fovea";
 *
 * const { train } = await datasets.mnist();
 * const lenet = zoo.lenet5();
 * const { suggestion } = await findLearningRate(lenet, train, { tries: 50 });
 * console.log(suggestion > 0.001, suggestion < 1); // true true
 * await lenet.fit(train, { steps: 10, optimizer: sgd({ learningRate: cosine(suggestion) }) });
 * ```
 */
export async function findLearningRate(
  model: Trained,
  train: Dataset,
  options: FindLearningRateOptions = {},
): Promise<LearningRateSearch> {
  const session = sessionOf(model);
  const { lowest = 1e-6, highest = 10, tries = 100, ...training } = checkedOptions(options);
  if (!(lowest > 0 && highest > lowest && Number.isFinite(highest))) {
    throw invalidArgument("lowest", `a positive rate below ${highest}`, lowest);
  }
  if (!(Number.isInteger(tries) && tries > 1)) throw invalidArgument("tries", "a number of steps above 1", tries);
  const rates = Array.from({ length: tries }, (_, index) => lowest * (highest / lowest) ** (index / (tries - 1)));
  return exclusively(session, "findLearningRate", () =>
    restoring(session, async () => suggest(await raise(session, train, training, rates))),
  );
}

/** Does what changes the weights and optimizer state of a session, and brings them back. */
async function restoring<Result>(session: Session, change: () => Promise<Result>): Promise<Result> {
  const directory = await mkdtemp(join(tmpdir(), "fovea-"));
  const before = join(directory, "before.safetensors");
  try {
    await session.saveCheckpoint(before, "");
    try {
      return await change();
    } finally {
      await session.loadCheckpoint(before);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function raise(
  session: Session,
  train: Dataset,
  options: FitOptions,
  rates: readonly number[],
): Promise<LearningRatePoint[]> {
  const { request } = await prepareSteps(session, train, options);
  const points: LearningRatePoint[] = [];
  let mean = 0;
  let lowest = Number.POSITIVE_INFINITY;
  for (const [step, learningRate] of rates.entries()) {
    if (options.signal?.aborted) throw new FoveaError("ABORTED", "The search for a learning rate was stopped.");
    const { losses, failure } = await session.trainSteps(train, request(step, Float64Array.of(learningRate)));
    if (failure !== undefined && points.length === 0) throw new FoveaError("NOT_FINITE", failure);
    if (failure !== undefined) break;
    mean = memory * mean + (1 - memory) * (losses[0] ?? Number.NaN);
    // The first losses count as if there had been ones like them before.
    const loss = mean / (1 - memory ** (step + 1));
    points.push({ learningRate, loss });
    lowest = Math.min(lowest, loss);
    if (loss > explosion * lowest) break;
  }
  return points;
}

function suggest(points: readonly LearningRatePoint[]): LearningRateSearch {
  const best = points.reduce((best, point) => (point.loss < best.loss ? point : best));
  return { suggestion: Number((best.learningRate / 10).toPrecision(2)), points };
}
