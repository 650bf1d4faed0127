import type { Command } from "commander";
import { resolveAugmentations } from "../data/augmentations.js";
import { FoveaError, hasCode } from "../errors.js";
import { Model } from "../model/model.js";
import type { Dataset } from "../native.js";
import { serveView } from "../report/view-server.js";
import { checkDataset } from "../training/check-dataset.js";
import { fit } from "../training/fit.js";
import { type FitState, initialState, runLength } from "../training/fit-options.js";
import { fitOptions, type RunConfig } from "../training/run-config.js";
import { RunDirectory } from "../training/run-directory.js";
import { noteSkipped, parseData } from "./data-argument.js";
import { printLearningRates } from "./find-lr.js";
import { Interrupt } from "./interrupt.js";
import { printNote, UsageError } from "./output.js";
import { type NewRun, newRun, resumedConfig, type TrainOptions } from "./train-config.js";
import { addTrainOptions } from "./train-options.js";
import { chooseProgress, type Data, heading, recipesHelp, report } from "./train-output.js";

export function addTrain(program: Command): void {
  const command = program.command("train").description("Train a network and write a run directory.");
  addTrainOptions(command).addHelpText("after", recipesHelp()).action(train);
}

async function train(text: string | undefined, options: TrainOptions): Promise<void> {
  const prepared =
    options.resume === undefined ? await newRun(text, options) : await earlierRun(text, options.resume, options);
  const { config } = prepared;
  const { graph, seed, precision, algorithms } = config;
  const model = new Model(graph, { seed, precision, algorithms, threads: options.threads });
  try {
    const data = await readData(config, model);
    if (prepared.weights !== undefined) await model.load(prepared.weights, { except: prepared.except });
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

async function readData({ data, corrupt, validation: share, seed }: RunConfig, model: Model): Promise<Data> {
  const source = parseData(data, { corrupt });
  const images = await source.train(model.inputShape);
  const [train, validation] =
    share === null ? [images, await source.validation(model.inputShape)] : images.split(share, seed);
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
  const { steps } = runLength(train.length, fitOptions(config));
  if (steps < state.step) {
    throw new UsageError(
      `Expected a length of at least the ${state.step} steps that ${run.path} has done but received ${steps}.`,
    );
  }
  return { run: await run.goOn(config), state };
}

async function runTraining(run: RunDirectory, state: FitState, model: Model, data: Data, json = false): Promise<void> {
  const progress = chooseProgress(json);
  const interrupt = new Interrupt(() => progress.stop(), "stopping; the run is being saved");
  let saved = state.step;
  try {
    const result = await fit(model.session, data.train, {
      ...fitOptions(run.config),
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
    noteSkipped([data.train, data.validation]);
    if (result.stopped === "aborted") process.exitCode = interrupt.exitCode;
  } catch (error) {
    if (!hasCode(error, "NOT_FINITE")) throw error;
    throw new FoveaError("NOT_FINITE", `${error.message} The checkpoint of step ${saved} in ${run.path} is kept.`);
  } finally {
    progress.stop();
    interrupt.dispose();
  }
}
