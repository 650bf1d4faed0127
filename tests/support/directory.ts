import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** A new directory, removed when the tests of the file that asked for it are done. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "fovea-test-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
