import { appendFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { fovea, foveaJson, start } from "../support/command-line.js";
import { temporaryDirectory } from "../support/directory.js";
import { smallMnist } from "../support/files.js";

const directory = temporaryDirectory();
const run = join(directory, "run");
const data = `mnist:${smallMnist(join(directory, "mnist"), { train: 320, test: 100 })}`;
await foveaJson(["train", "lenet5", "--data", data, "--out", run, "--epochs", "2"]);
const { child, outcome } = start(["view", run]);
const url = await new Promise<string>((resolve) => {
  child.stdout?.once("data", (line: string) => resolve(/http:\S+/.exec(line)?.[0] ?? ""));
});
afterAll(() => child.kill());

/** The answer to a request that names any host. */
async function status(options: { host: string; method?: string }): Promise<number | undefined> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const { method = "GET", host } = options;
    request({ hostname, port, path: "/", method, headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on("error", reject)
      .end();
  });
}

describe("view serves a run's page", () => {
  test("with its curves, its own script and nothing from elsewhere", async () => {
    const answer = await fetch(url);
    const page = await answer.text();
    expect(answer.headers.get("content-security-policy")).toMatch(/^default-src 'none'/);
    expect(page.match(/<svg /g)).toHaveLength(3);
    expect(page.match(/src="[^"]*"/g)).toEqual(['src="live.js"']);
    expect(page).not.toMatch(/https?:\/\//);
    expect(await (await fetch(new URL("live.js", url))).text()).toContain('fetch("content"');
  });

  test("that changes when the run goes on, and only then", async () => {
    const content = new URL("content", url);
    const before = await fetch(content);
    const etag = before.headers.get("etag") ?? "";
    expect(await before.text()).toContain("<dd>10</dd>");
    expect((await fetch(content, { headers: { "if-none-match": etag } })).status).toBe(304);
    const line = { step: 11, epoch: 3, loss: 0.5, learningRate: 0.01, imagesPerSecond: 1000 };
    appendFileSync(join(run, "metrics.jsonl"), `${JSON.stringify(line)}\n`);
    const after = await fetch(content, { headers: { "if-none-match": etag } });
    expect(after.status).toBe(200);
    expect(await after.text()).toContain("<dd>11</dd>");
  });

  test("to this machine alone, to be read", async () => {
    const { host } = new URL(url);
    expect(await status({ host })).toBe(200);
    expect(await status({ host: "localhost:80" })).toBe(200);
    expect(await status({ host: "example.org" })).toBe(403);
    expect(await status({ host, method: "POST" })).toBe(405);
    expect((await fetch(new URL("config.json", url))).status).toBe(404);
  });

  test("not on a port that is taken, nor of what is no run", async () => {
    const taken = await fovea(["view", run, "--port", new URL(url).port]);
    expect([taken.exitCode, taken.stderr]).toEqual([
      1,
      expect.stringMatching(/^error: Expected to listen on port \d+ .*\n$/),
    ]);
    expect((await fovea(["view", directory])).exitCode).toBe(1);
    expect((await fovea(["view", run, "--port", "70000"])).exitCode).toBe(2);
  });

  test("until Ctrl-C", async () => {
    child.kill("SIGINT");
    expect((await outcome).exitCode).toBe(0);
  });
});
