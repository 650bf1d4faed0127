import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { FoveaError, hasCode } from "../errors.js";
import type { Session } from "../native.js";
import { type RunReport, renderRunReport } from "../report/run-report.js";
import { combined } from "./callbacks.js";
import { saveBest, saveCheckpoints } from "./checkpoints.js";
import { makeDirectory, reason, writeWhole } from "./files.js";
import { type FitCallbacks, type FitState, parseState, type StepMetrics } from "./fit-options.js";
import { parseJson } from "./json.js";
import { csvLog, jsonLinesLog, type MetricsLine, readMetrics } from "./logs.js";
import { describeOptimizer } from "./optimizers.js";
import { isRunConfig, type RunConfig, runDefaults } from "./run-config.js";

/**
 * What a run leaves on disk: `config.json`, `metrics.jsonl`, `model.safetensors`, `checkpoint.safetensors` and
 * `report.html`.
 *
 * Whatever is not appended to is written beside its place and renamed, so a run that is killed at any moment leaves
 * its last complete state. Metrics are appended before the checkpoint that includes them; lines beyond the checkpoint
 * are dropped when the run is resumed.
 */
export class RunDirectory {
  readonly path: string;
  readonly config: RunConfig;

  private constructor(path: string, config: RunConfig) {
    this.path = path;
    this.config = config;
  }

  /**
   * Makes the directory of a new run.
   *
   * @throws FoveaError `IO` when it cannot be written, or has files in it already
   */
  static async create(path: string, config: RunConfig): Promise<RunDirectory> {
    const run = new RunDirectory(path, config);
    let files: string[];
    try {
      await makeDirectory(path);
      files = await readdir(path);
      if (files.length === 0) await run.#writeConfig();
    } catch (error) {
      if (error instanceof FoveaError) throw error;
      throw new FoveaError("IO", `Expected to write the run to ${path} but ${reason(error)}.`, { cause: error });
    }
    if (files.includes("config.json")) {
      throw new FoveaError(
        "IO",
        `Expected a new directory but ${path} holds a run: go on with it by --resume ${path}.`,
      );
    }
    if (files.length > 0)
      throw new FoveaError("IO", `Expected a new or empty directory but ${path} holds other files.`);
    return run;
  }

  /**
   * Opens the directory of a run.
   *
   * @throws FoveaError `IO` or `INVALID_DATA` when there is no run
   */
  static async open(path: string): Promise<RunDirectory> {
    let text: string;
    try {
      text = await readFile(join(path, "config.json"), "utf8");
    } catch (error) {
      const found = hasCode(error, "ENOENT") ? `${path} has no config.json` : `${path}: ${reason(error)}`;
      throw new FoveaError("IO", `Expected the directory of a run but ${found}.`, { cause: error });
    }
    const config = parseJson(text);
    if (!isRunConfig(config)) {
      throw new FoveaError("INVALID_DATA", `Expected the configuration of a run in ${path}/config.json.`);
    }
    return new RunDirectory(path, { ...runDefaults, ...config });
  }

  /** Whether a path looks like the directory of a run. */
  static async isRun(path: string): Promise<boolean> {
    return readdir(path).then(
      (files) => files.includes("config.json"),
      () => false,
    );
  }

  get weightsPath(): string {
    return join(this.path, "model.safetensors");
  }

  get checkpointPath(): string {
    return join(this.path, "checkpoint.safetensors");
  }

  /** Puts parameters and optimizer state of the checkpoint into a session and returns where the run stands. */
  async restore(session: Session): Promise<FitState> {
    return parseState(await session.loadCheckpoint(this.checkpointPath), this.checkpointPath);
  }

  /** The recorded metrics. */
  async metrics(): Promise<MetricsLine[]> {
    return readMetrics(this.#metricsPath);
  }

  /** What writes the run's files while it is trained. */
  callbacks(session: Session): FitCallbacks {
    const { csv, saveBest: best, keep, ema } = this.config;
    return combined([
      jsonLinesLog(this.#metricsPath),
      ...(csv ? [csvLog(join(this.path, "metrics.csv"))] : []),
      ...(best ? [saveBest({ session }, join(this.path, "best.safetensors"), { averaged: ema !== null })] : []),
      { onSave: (state) => this.save(session, state) },
      ...(keep === null ? [] : [saveCheckpoints({ session }, join(this.path, "checkpoints"), { last: keep })]),
    ]);
  }

  /**
   * Writes down the options with which the run goes on, and takes away the half-written files that one that was killed
   * has left.
   */
  async goOn(config: RunConfig): Promise<RunDirectory> {
    const abandoned = (await readdir(this.path)).filter((name) => name.startsWith(".") && name.endsWith(".tmp"));
    await Promise.all(abandoned.map((name) => rm(join(this.path, name), { force: true })));
    const run = new RunDirectory(this.path, config);
    await run.#writeConfig();
    return run;
  }

  /** Writes the checkpoint, the weights alone (averaged, where they are), and the report. */
  async save(session: Session, state: FitState): Promise<void> {
    await session.saveCheckpoint(this.checkpointPath, JSON.stringify(state));
    // The first step makes the first averages.
    await session.saveWeights(this.weightsPath, { averaged: this.config.ema !== null && state.step > 0 });
    await writeWhole(join(this.path, "report.html"), renderRunReport(await this.report()));
  }

  /** Changes whenever there is something new to report. */
  async version(): Promise<string> {
    try {
      const { size, mtimeMs } = await stat(this.#metricsPath);
      return `${size}-${mtimeMs}`;
    } catch (error) {
      if (hasCode(error, "ENOENT")) return "none";
      throw error;
    }
  }

  /** What is known of the run, for people. */
  async report(): Promise<RunReport> {
    const { model, data, batchSize, optimizer, seed, epochs: length, steps: total } = this.config;
    const steps: StepMetrics[] = [];
    const epochs: RunReport["epochs"][number][] = [];
    for (const line of await this.metrics()) {
      if ("step" in line) steps.push(line);
      else epochs.push({ ...line, step: steps.at(-1)?.step ?? 0 });
    }
    const last = steps.at(-1);
    const done = (last?.step ?? 0).toLocaleString("en");
    return {
      title: `${model} on ${data}`,
      facts: [
        ["batch", String(batchSize)],
        ["optimizer", describeOptimizer(optimizer)],
        ["seed", String(seed)],
        ["step", total === null ? done : `${done} of ${total.toLocaleString("en")}`],
        ...(length === null ? [] : [["epoch", `${last?.epoch ?? 0} of ${length}`] as const]),
        ["images a second", Math.round(last?.imagesPerSecond ?? 0).toLocaleString("en")],
      ],
      steps,
      epochs,
    };
  }

  get #metricsPath(): string {
    return join(this.path, "metrics.jsonl");
  }

  async #writeConfig(): Promise<void> {
    await writeWhole(join(this.path, "config.json"), `${JSON.stringify(this.config, undefined, 2)}\n`);
  }
}
