import { describe, expect, test } from "vitest";
import type { Case } from "../../bench/cases.js";
import { type Comparison, compare, type Listener, type Peer } from "../../bench/compare.js";
import type { Program } from "../../bench/party.js";
import { temporaryDirectory } from "../support/directory.js";
import { appendTo, fakeParty, linesOf } from "./fake-party.js";

const directory = temporaryDirectory();
const train: Case = { network: "lenet5", mode: "train", batch: 4 };
const infer: Case = { network: "lenet5", mode: "single", batch: 1 };

const peer = (name: string, onRequest: string, trains = true): Peer => ({ ...fakeParty(name, onRequest), trains });

/** Compares, and notes what is told meanwhile. */
async function run(
  ours: Program,
  peers: readonly Peer[],
  cases: readonly Case[],
): Promise<Comparison & { told: readonly string[] }> {
  const told: string[] = [];
  const listener: Listener = {
    absent: (peer, reason) => told.push(`absent ${peer.name}: ${reason}`),
    failed: (one, reason) => told.push(`failed ${one.mode}: ${reason}`),
    begin: () => {},
    done: (result) => told.push(`done ${result.mode}`),
  };
  return { ...(await compare({ ours, peers, cases, threads: 1, rounds: 3, seconds: 0.01 }, listener)), told };
}

test("programs work in turns, with the setting that they found first", async () => {
  const log = `${directory}/turns`;
  const speaker = (name: string, milliseconds: number): string =>
    `${appendTo(log, `"${name} " + (request.setting ?? "trial") + " " + request.mode`)}
     reply(times(${milliseconds}, request.setting ?? "best"));`;
  const { results, versions, told } = await run(
    fakeParty("ours", speaker("ours", 2)),
    [peer("theirs", speaker("theirs", 5))],
    [train],
  );
  expect(linesOf(log)).toEqual([
    "ours trial train",
    "theirs trial train",
    ...[1, 2, 3].flatMap(() => ["ours best train", "theirs best train"]),
  ]);
  expect(versions).toEqual({ ours: "ours 1.0", theirs: "theirs 1.0" });
  expect(results[0]?.peers[0]).toMatchObject({ party: "theirs", setting: "best" });
  expect(results[0]?.peers[0]?.slices.map(({ medianMs }) => medianMs)).toEqual([5, 5, 5]);
  expect(told).toEqual(["done train"]);
});

test("training is measured in a process that tried no other setting", async () => {
  const answer = "reply({ ...times(1), setting: request.setting ?? String(process.pid), steps: process.pid });";
  const { results } = await run(fakeParty("ours", answer), [], [train, infer]);
  const [training, inference] = results.map(({ ours }) => ours);
  expect(training?.slices.every(({ steps }) => steps !== Number(training.setting))).toBe(true);
  expect(inference?.slices.every(({ steps }) => steps === Number(inference.setting))).toBe(true);
});

test("a peer that does not train takes part in inference alone", async () => {
  const answer = "reply(times(1))";
  const { results } = await run(fakeParty("ours", answer), [peer("infers", answer, false)], [train, infer]);
  expect(results.map(({ mode, peers }) => [mode, peers.length])).toEqual([
    ["train", 0],
    ["single", 1],
  ]);
});

describe("the comparison goes on", () => {
  const ours = fakeParty("ours", "reply(times(1))");

  test("without a peer that is not there, which is told once", async () => {
    const ghost = { name: "ghost", command: "/no/such/program", args: [], trains: true };
    const { results, told } = await run(ours, [ghost], [train, infer]);
    expect(results).toHaveLength(2);
    expect(told).toEqual([expect.stringMatching(/^absent ghost: .*ENOENT/), "done train", "done single"]);
  });

  test("without a peer that dies in a slice, until the next case", async () => {
    const dying = peer("dying", 'if (request.mode === "train" && request.setting) process.exit(7); reply(times(2));');
    const { results, told } = await run(ours, [dying, peer("well", "reply(times(3))")], [train, infer]);
    expect(results.map(({ peers }) => peers.map(({ party }) => party))).toEqual([["well"], ["dying", "well"]]);
    expect(told).toEqual([expect.stringMatching(/^failed train: .*dying.*exit code 7/), "done train", "done single"]);
  });

  test("without a peer that does not know the network", async () => {
    const { results, told } = await run(ours, [peer("fussy", 'reply({ error: "no such model" })')], [infer]);
    expect(results[0]?.peers).toEqual([]);
    expect(told).toEqual(["failed single: fussy: no such model", "done single"]);
  });

  test("with the next case where fovea fails", async () => {
    const failing = fakeParty("ours", 'reply(request.mode === "train" ? { error: "too big" } : times(1))');
    const { results, told } = await run(failing, [], [train, infer]);
    expect(results.map(({ mode }) => mode)).toEqual(["single"]);
    expect(told).toEqual(["failed train: ours: too big", "done single"]);
  });
});
