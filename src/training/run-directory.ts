import { appendFile, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { FoveaError, hasCode } from "../errors.js";
import type { Session } from "../native.js";
import { type RunReport, renderRunReport } from "../report/run-report.js";
import type { EpochMetrics, FitState, StepMetrics } from "./fit.js";
import { describeOptimizer } from "./optimizers.js";
import { hasNumbers, isRunConfig, type RunConfig } from "./run-config.js";

/** A line of `metrics.jsonl`. */
export type MetricsLine = StepMetrics | EpochMetrics;

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
    const config = parse(text);
    if (!isRunConfig(config)) {
      throw new FoveaError("INVALID_DATA", `Expected the configuration of a run in ${path}/config.json.`);
    }
    return new RunDirectory(path, config);
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
    const state = parse(await session.loadCheckpoint(this.checkpointPath));
    if (!isFitState(state)) {
      throw new FoveaError("INVALID_DATA", `Expected the state of a run in ${this.checkpointPath}.`);
    }
    return state;
  }

  async append(lines: readonly MetricsLine[]): Promise<void> {
    await appendFile(this.#metricsPath, lines.map(toLine).join(""));
  }

  /** The recorded metrics; a last line that was cut off where the run was killed is left out. */
  async metrics(): Promise<MetricsLine[]> {
    try {
      const text = await readFile(this.#metricsPath, "utf8");
      return text.split("\n").map(parse).filter(isMetricsLine);
    } catch (error) {
      if (hasCode(error, "ENOENT")) return [];
      throw error;
    }
  }

  /**
   * Makes the directory what it was at a checkpoint, and writes down the options with which the run goes on: a run that
   * was killed may have recorded steps beyond its checkpoint, and left half-written files.
   */
  async rewind(step: number, stepsPerEpoch: number, config: RunConfig): Promise<RunDirectory> {
    const lines = await this.metrics();
    const kept = lines.filter((line) => ("step" in line ? line.step : line.epoch * stepsPerEpoch) <= step);
    await this.#write("metrics.jsonl", kept.map(toLine).join(""));
    const abandoned = (await readdir(this.path)).filter((name) => name.startsWith(".") && name.endsWith(".tmp"));
    await Promise.all(abandoned.map((name) => rm(join(this.path, name), { force: true })));
    const run = new RunDirectory(this.path, config);
    await run.#writeConfig();
    return run;
  }

  /** Writes the checkpoint, the weights alone, and the report. */
  async save(session: Session, state: FitState): Promise<void> {
    await session.saveCheckpoint(this.checkpointPath, JSON.stringify(state));
    await session.saveWeights(this.weightsPath);
    await this.#write("report.html", renderRunReport(this.#report(await this.metrics())));
  }

  #report(metrics: readonly MetricsLine[]): RunReport {
    const { model, data, batchSize, optimizer, seed } = this.config;
    const steps: StepMetrics[] = [];
    const epochs: RunReport["epochs"][number][] = [];
    for (const line of metrics) {
      if ("step" in line) steps.push(line);
      else epochs.push({ ...line, step: steps.at(-1)?.step ?? 0 });
    }
    return {
      title: `${model} on ${data}`,
      facts: [
        ["batch", String(batchSize)],
        ["optimizer", describeOptimizer(optimizer)],
        ["seed", String(seed)],
        ["steps", String(steps.at(-1)?.step ?? 0)],
      ],
      steps,
      epochs,
    };
  }

  get #metricsPath(): string {
    return join(this.path, "metrics.jsonl");
  }

  async #writeConfig(): Promise<void> {
    await this.#write("config.json", `${JSON.stringify(this.config, undefined, 2)}\n`);
  }

  /** Writes a file whole or not at all: beside its place, synced, renamed. */
  async #write(name: string, text: string): Promise<void> {
    const path = join(this.path, name);
    const temporary = join(this.path, `.${name}.tmp`);
    try {
      const file = await open(temporary, "w");
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }
}

function toLine(line: MetricsLine): string {
  return `${JSON.stringify(line)}\n`;
}

/** JSON, or undefined for text that is none. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isMetricsLine(line: unknown): line is MetricsLine {
  return hasNumbers(line, ["epoch"]) && (hasNumbers(line, ["step", "loss"]) || hasNumbers(line, ["trainLoss"]));
}

function isFitState(state: unknown): state is FitState {
  return hasNumbers(state, ["step", "lossSum", "images", "seconds"]);
}

/** With its parents, as `mkdir` says with `recursive`, which never ends where the system takes no directory, as in /proc. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (hasCode(error, "EEXIST")) return;
    if (!hasCode(error, "ENOENT")) throw error;
    await makeDirectory(dirname(path));
    await mkdir(path);
  }
}

/** What the operating system said, as the end of a sentence. */
function reason(error: unknown): string {
  if (hasCode(error, "ENOENT")) return "there is no such place";
  if (hasCode(error, "EACCES") || hasCode(error, "EPERM")) return "permission was denied";
  if (hasCode(error, "EEXIST") || hasCode(error, "ENOTDIR")) return "a file is in the way";
  if (hasCode(error, "EROFS")) return "the file system is read-only";
  return error instanceof Error ? error.message : String(error);
}
