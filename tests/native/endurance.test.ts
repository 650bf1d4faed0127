import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const program = fileURLToPath(new URL("endurance.mjs", import.meta.url));

test("neither steps nor worker threads that come and go leave memory behind", async () => {
  const scale = ["--steps", "2000", "--workers", "8", "--rounds", "6"];
  const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", program, ...scale]);
  const growth: { steps: number; workers: number } = JSON.parse(stdout);
  // A leak of one gradient buffer a step, or of one session a worker, would be far more.
  expect(growth.steps).toBeLessThan(8);
  expect(growth.workers).toBeLessThan(40);
}, 120_000);
