import { type Command, Option } from "commander";
import { Model } from "../model/model.js";
import { plainTable } from "../report/table.js";
import { modelHelp, resolveModel } from "./model-argument.js";
import {
  algorithmOption,
  batchOption,
  jsonOption,
  modeOption,
  positiveNumber,
  precisionOption,
  type SharedOptions,
  threadsOption,
} from "./options.js";
import { count, peakMemoryBytes, printResult, whole } from "./output.js";

interface BenchOptions extends SharedOptions {
  readonly mode: string;
  readonly batch: number;
  readonly seconds: number;
}

interface BenchResult {
  readonly model: string;
  readonly mode: string;
  readonly batch: number;
  readonly threads: number;
  readonly isa: string;
  readonly medianMs: number;
  readonly minMs: number;
  readonly maxMs: number;
  readonly steps: number;
  readonly imagesPerSecond: number;
  readonly gflops: number;
  readonly peakGflops: number;
  readonly peakMemoryBytes: number;
}

export function addBench(program: Command): void {
  program
    .command("bench")
    .description("Time the steps of a synthetic batch, compilation and warm-up excluded.")
    .argument("<model>", modelHelp)
    .addOption(modeOption())
    .addOption(batchOption(64))
    .addOption(new Option("--seconds <s>", "how long to measure").argParser(positiveNumber).default(3))
    .addOption(threadsOption())
    .addOption(precisionOption())
    .addOption(algorithmOption())
    .addOption(jsonOption())
    .action(bench);
}

async function bench(
  text: string,
  { mode, batch, seconds, json, algorithm: algorithms, ...options }: BenchOptions,
): Promise<void> {
  const { name, definition } = await resolveModel(text);
  const model = new Model(definition, { ...options, algorithms });
  try {
    const { threads, isa } = model.session;
    const { medianMs, minMs, maxMs, steps, gflops, peakGflops } = await model.session.benchmark(mode, batch, seconds);
    const result: BenchResult = {
      model: name,
      mode,
      batch,
      threads,
      isa,
      medianMs,
      minMs,
      maxMs,
      steps,
      imagesPerSecond: (1000 * batch) / medianMs,
      gflops,
      peakGflops,
      peakMemoryBytes: peakMemoryBytes(),
    };
    printResult(json, result, format);
  } finally {
    await model.close();
  }
}

function format(result: BenchResult): string {
  const { model, mode, batch, threads, isa, medianMs, minMs, maxMs, steps, imagesPerSecond, gflops, peakGflops } =
    result;
  const milliseconds = (value: number): string => value.toPrecision(4);
  const table = plainTable(
    [
      { title: "median ms" },
      { title: "min ms" },
      { title: "max ms" },
      { title: "steps" },
      { title: "images/s" },
      { title: "GFLOP/s" },
      { title: "% of peak" },
      { title: "peak MB" },
    ],
    [
      [
        milliseconds(medianMs),
        milliseconds(minMs),
        milliseconds(maxMs),
        whole(steps),
        whole(imagesPerSecond),
        gflops.toFixed(1),
        ((100 * gflops) / peakGflops).toFixed(0),
        whole(result.peakMemoryBytes / 1e6),
      ],
    ],
  );
  return `${model}, ${mode}, batch ${batch}, ${count(threads, "thread")}, ${isa}\n${table}`;
}
