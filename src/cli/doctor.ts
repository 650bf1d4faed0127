import type { Command } from "commander";
import { type DoctorReport, doctor } from "../native.js";
import { jsonOption, type SharedOptions } from "./options.js";
import { printResult } from "./output.js";

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("Show the platform, the binary and the instruction set, and check every kernel.")
    .addOption(jsonOption())
    .action(async ({ json }: SharedOptions) => {
      const report = await doctor();
      printResult(json, report, format);
      if (!report.ok) process.exitCode = 1;
    });
}

function format({
  ok,
  version,
  platform,
  arch,
  node,
  binary,
  cpuFeatures,
  isa,
  threads,
  checks,
}: DoctorReport): string {
  const facts = [
    ["fovea", version],
    ["platform", `${platform}-${arch}, Node ${node}`],
    ["binary", binary],
    ["processor", cpuFeatures.join(" ") || "no feature that kernels make use of"],
    ["instruction set", isa.chosen ? `${isa.chosen} (of ${isa.available.join(", ")})` : `none: ${isa.problem}`],
    ["threads", String(threads)],
    ...isa.available.map((name) => [`kernels, ${name}`, checkLine(checks.filter((check) => check.isa === name))]),
  ];
  const width = Math.max(...facts.map(([name = ""]) => name.length));
  const lines = facts.map(([name = "", value]) => `${name.padEnd(width)}  ${value}`);
  return [...lines, ok ? "Everything is in order." : "Something is wrong here; see the lines above."].join("\n");
}

function checkLine(checks: DoctorReport["checks"]): string {
  const wrong = checks.filter((check) => !check.ok);
  if (wrong.length === 0) return `all ${checks.length} agree with the reference`;
  return `wrong: ${wrong.map(({ kernel, error }) => `${kernel} (error ${error.toPrecision(2)})`).join(", ")}`;
}
