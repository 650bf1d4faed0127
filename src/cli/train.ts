import { type Command, InvalidArgumentError, Option } from "commander";
import { type Augmentation, augmentationHelp, parseAugmentation, resolveAugmentations } from "../data/augmentations.js";
import { FoveaError, hasCode } from "../errors.js";
import { Model } from "../model/model.js";
import type { Dataset } from "../native.js";
import { serveView } from "../report/view-server.js";
import { checkDataset } from "../training/check-dataset.js";
import { fit } from "../training/fit.js";
import { type FitOptions, type FitState, initialState, runLength } from "../training/fit-options.js";
import { defaultLearningRates } from "../training/optimizers.js";
import { recipes } from "../training/recipes.js";
import type { RunConfig } from "../training/run-config.js";
import { RunDirectory } from "../training/run-directory.js";
import { printLearningRates } from "./find-lr.js";
import { Interrupt } from "./interrupt.js";
import { modelHelp } from "./model-argument.js";
import {
  algorithmOption,
  dataOption,
  fraction,
  imageShape,
  jsonOption,
  nonNegativeNumber,
  parseData,
  positiveInteger,
  positiveNumber,
  precisionOption,
  seedOption,
  threadsOption,
  wholeNumber,
} from "./options.js";
import { printNote, UsageError } from "./output.js";
import { scheduleOption } from "./schedule-option.js";
import { type NewRun, newRun, resumedConfig, type TrainOptions } from "./train-config.js";
import { chooseProgress, type Data, heading, recipesHelp, report } from "./train-output.js";

export function addTrain(program: Command): void {
  program
    .command("train")
    .description("Train a network and write a run directory.")
    .argument("[model]", `${modelHelp}; not needed with --resume`)
    .addOption(dataOption())
    .addOption(
      new Option("--input <HxWxC>", "another image size for a zoo model").argParser(imageShape).conflicts("resume"),
    )
    .addOption(
      new Option("--classes <n>", "another number of classes for a zoo model")
        .argParser(positiveInteger)
        .conflicts("resume"),
    )
    .addOption(new Option("--out <run>", "directory to write; new or empty"))
    .addOption(new Option("--resume <run>", "go on with a run from its last checkpoint, with its own options"))
    .addOption(new Option("--epochs <n>", "passes over the data, in all (default: 10)").argParser(positiveInteger))
    .addOption(
      new Option("--steps <n>", "batches, in all; instead of --epochs").argParser(positiveInteger).conflicts("epochs"),
    )
    .addOption(
      new Option("--recipe <name>", "begin with the options of a recipe, see below").choices(Object.keys(recipes)),
    )
    .addOption(new Option("--batch <n>", "images a step (default: 64)").argParser(positiveInteger))
    .addOption(new Option("--optimizer <name>", "what turns gradients into weights (default: sgd)").choices(["sgd"]))
    .addOption(
      new Option("--lr <rate>", `learning rate (default: ${defaultLearningRates.sgd})`).argParser(positiveNumber),
    )
    .addOption(new Option("--momentum <m>", "from 0 to below 1 (default: 0.9)").argParser(fraction))
    .addOption(new Option("--nesterov", "use Nesterov's momentum"))
    .addOption(
      new Option("--weight-decay <d>", "L2 penalty of every parameter (default: 0)").argParser(nonNegativeNumber),
    )
    .addOption(scheduleOption())
    .addOption(new Option("--warmup <steps>", "rise to the learning rate linearly (default: 0)").argParser(wholeNumber))
    .addOption(new Option("--label-smoothing <s>", "share spread over all classes (default: 0)").argParser(fraction))
    .addOption(new Option("--no-shuffle", "keep the order of the images"))
    .addOption(new Option("--augment <list>", augmentationHelp).argParser(augmentation))
    .addOption(new Option("--no-augment", "train on the images as they are, which is the default"))
    .addOption(new Option("--weights <file>", "initial weights, as safetensors"))
    .addOption(new Option("--save-every <steps>", "save inside an epoch too").argParser(positiveInteger))
    .addOption(
      new Option("--keep <n>", "keep the last so many checkpoints, in RUN/checkpoints").argParser(positiveInteger),
    )
    .addOption(new Option("--save-best", "keep the weights of the best epoch, in RUN/best.safetensors"))
    .addOption(
      new Option("--patience <epochs>", "stop when so many epochs brought no new best").argParser(positiveInteger),
    )
    .addOption(
      new Option(
        "--monitor <metric>",
        "what says which epoch is the best (default: validationAccuracy, else trainLoss)",
      ).choices(["trainLoss", "validationLoss", "validationAccuracy"]),
    )
    .addOption(new Option("--csv", "write the epochs to RUN/metrics.csv too"))
    .addOption(new Option("--find-lr", "try rising learning rates for some steps, print the losses and a suggestion"))
    .addOption(new Option("--view", "serve the run's page on 127.0.0.1 while it is trained"))
    .addOption(threadsOption())
    .addOption(seedOption())
    .addOption(precisionOption())
    .addOption(algorithmOption())
    .addOption(jsonOption())
    .addHelpText("after", recipesHelp())
    .action(train);
}

function augmentation(text: string): Augmentation[] {
  try {
    return parseAugmentation(text);
  } catch (error) {
    throw error instanceof FoveaError ? new InvalidArgumentError(error.message) : error;
  }
}

async function train(text: string | undefined, options: TrainOptions): Promise<void> {
  const prepared =
    options.resume === undefined ? await newRun(text, options) : await earlierRun(text, options.resume, options);
  const { config } = prepared;
  const { graph, seed, precision, algorithms } = config;
  const model = new Model(graph, { seed, precision, algorithms, threads: options.threads });
  try {
    const data = await readData(config, model);
    if (prepared.weights !== undefined) await model.load(prepared.weights);
    // Compiles the training plan, so that a network that cannot be trained is told before anything is written.
    await model.session.explain("train", Math.min(config.batchSize, data.train.length), false);
    if (options.findLr) return await printLearningRates(model, data.train, config, options.json);
    const { run, state } =
      "out" in prepared ? await begin(prepared, model, data.train) : await goOn(prepared, model, data.train);
    const view = options.view ? await serveView(run) : undefined;
    if (view) printNote(`the run's page is at ${view.url} while it is trained`);
    try {
      await runTraining(run, state, model, data, options.json);
    } finally {
      await view?.close();
    }
  } finally {
    await model.close();
  }
}

/** A run that goes on, and what it is to go on with. */
interface EarlierRun {
  readonly config: RunConfig;
  readonly run: RunDirectory;
  readonly weights?: undefined;
}

async function earlierRun(text: string | undefined, path: string, options: TrainOptions): Promise<EarlierRun> {
  const run = await RunDirectory.open(path);
  return { run, config: resumedConfig(path, run.config, text, options) };
}

async function readData({ data }: RunConfig, model: Model): Promise<Data> {
  const source = parseData(data);
  const train = await source.train(model.inputShape);
  const validation = await source.validation(model.inputShape);
  checkDataset(model, train);
  if (validation) checkDataset(model, validation);
  return { train, validation };
}

interface Stage {
  readonly run: RunDirectory;
  readonly state: FitState;
}

/** Writes step 0 as a checkpoint: from then on there is always one to go back to, and the disk is known to hold it. */
async function begin({ out = "", config }: NewRun, { session }: Model, train: Dataset): Promise<Stage> {
  const augment = await resolveAugmentations(config.augment, train);
  const run = await RunDirectory.create(out, { ...config, augment, classNames: train.classNames });
  await run.save(session, initialState);
  return { run, state: initialState };
}

async function goOn({ run, config }: EarlierRun, { session }: Model, train: Dataset): Promise<Stage> {
  const state = await run.restore(session);
  const { steps } = runLength(train.length, lengthOf(config));
  if (steps < state.step) {
    throw new UsageError(
      `Expected a length of at least the ${state.step} steps that ${run.path} has done but received ${steps}.`,
    );
  }
  return { run: await run.goOn(config), state };
}

function lengthOf({ epochs, steps, batchSize }: RunConfig): Pick<FitOptions, "epochs" | "steps" | "batchSize"> {
  return { epochs: epochs ?? undefined, steps: steps ?? undefined, batchSize };
}

async function runTraining(run: RunDirectory, state: FitState, model: Model, data: Data, json = false): Promise<void> {
  const { optimizer, labelSmoothing, shuffle, augment, seed, saveEvery, monitor, patience } = run.config;
  const progress = chooseProgress(json);
  const interrupt = new Interrupt(() => progress.stop(), "stopping; the run is being saved");
  let saved = state.step;
  try {
    const result = await fit(model.session, data.train, {
      ...lengthOf(run.config),
      ...{ optimizer, labelSmoothing, shuffle, augment, seed },
      saveEvery: saveEvery ?? undefined,
      monitor: monitor ?? undefined,
      patience: patience ?? undefined,
      validation: data.validation,
      signal: interrupt.signal,
      resume: state,
      callbacks: [
        {
          onStart(length, state) {
            if (!json) process.stdout.write(`${heading(run.config, model, data, length, state.step)}\n`);
            progress.start(length, state.step);
          },
        },
        run.callbacks(model.session),
        {
          onSteps: (steps) => progress.steps(steps),
          onEpoch: (epoch) => progress.epoch(epoch),
          onSave(state) {
            saved = state.step;
          },
        },
      ],
    });
    progress.stop();
    report(run, result, json);
    if (result.stopped === "aborted") process.exitCode = interrupt.exitCode;
  } catch (error) {
    if (!hasCode(error, "NOT_FINITE")) throw error;
    throw new FoveaError("NOT_FINITE", `${error.message} The checkpoint of step ${saved} in ${run.path} is kept.`);
  } finally {
    progress.stop();
    interrupt.dispose();
  }
}
