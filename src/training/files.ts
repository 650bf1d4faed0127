import { appendFile, mkdir, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { FoveaError, hasCode } from "../errors.js";

/**
 * Writes a file whole or not at all: beside its place, synced, renamed.
 *
 * @throws FoveaError `IO` that names the file
 */
export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.tmp`);
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
    throw refusal(path, error);
  }
}

/**
 * Adds to the end of a file.
 *
 * @throws FoveaError `IO` that names the file
 */
export async function append(path: string, text: string): Promise<void> {
  try {
    await appendFile(path, text);
  } catch (error) {
    throw refusal(path, error);
  }
}

function refusal(path: string, error: unknown): FoveaError {
  return new FoveaError("IO", `Expected to write ${path} but ${reason(error)}.`, { cause: error });
}

/** With its parents, as `mkdir` says with `recursive`, which never ends where the system takes no directory, as in /proc. */
export async function makeDirectory(path: string): Promise<void> {
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
export function reason(error: unknown): string {
  if (hasCode(error, "ENOENT")) return "there is no such place";
  if (hasCode(error, "EACCES") || hasCode(error, "EPERM")) return "permission was denied";
  if (hasCode(error, "EEXIST") || hasCode(error, "ENOTDIR")) return "a file is in the way";
  if (hasCode(error, "EROFS")) return "the file system is read-only";
  if (hasCode(error, "ENOSPC")) return "the disk is full";
  return error instanceof Error ? error.message : String(error);
}
