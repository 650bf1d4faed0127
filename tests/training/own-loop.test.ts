import { expect, test, vi } from "vitest";

test("the example of one's own loop learns the direction of stripes", async () => {
  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  await import("../../examples/own-loop.js");
  const lines = log.mock.calls.map(([line]) => String(line));
  log.mockRestore();
  expect(lines).toHaveLength(4);
  const losses = lines.slice(0, 3).map((line) => Number(/loss ([\d.]+)/.exec(line)?.[1]));
  expect(losses[2]).toBeLessThan(losses[0] ?? 0);
  expect(Number.parseFloat(lines[3] ?? "")).toBeGreaterThan(95);
});
