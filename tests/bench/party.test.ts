import { describe, expect, test } from "vitest";
import { Party, PartyError, type Request, StartError } from "../../bench/party.js";
import { fakeParty, isRunning } from "./fake-party.js";

const request: Request = { model: "lenet5", mode: "infer", batch: 2, threads: 1, seconds: 0.1 };

test("a party answers each request with times, in order", async () => {
  const party = await Party.start(fakeParty("fake", "reply(times(request.batch, request.setting))"));
  expect(party.version).toBe("fake 1.0");
  expect(await party.ask(request)).toMatchObject({ medianMs: 2, setting: "usual" });
  expect(await party.ask({ ...request, batch: 5, setting: "other" })).toMatchObject({ medianMs: 5, setting: "other" });
  await party.close();
});

test("what a program starts ends with it", async () => {
  const onRequest = `const child = require("node:child_process").spawn("sleep", ["600"]);
    reply({ ...times(1), setting: String(child.pid) });`;
  const party = await Party.start(fakeParty("parent", onRequest));
  const pid = Number((await party.ask(request)).setting);
  expect(isRunning(pid)).toBe(true);
  await party.close();
  await expect.poll(() => isRunning(pid)).toBe(false);
});

describe("an error names the program and says what it said last", () => {
  test("of a request that it cannot do, after which it answers the next", async () => {
    const onRequest = `reply(request.batch > 2 ? { error: "ValueError: too many" } : times(1));`;
    const party = await Party.start(fakeParty("fussy", onRequest));
    await expect(party.ask({ ...request, batch: 3 })).rejects.toThrow(new PartyError("fussy: ValueError: too many"));
    expect(await party.ask(request)).toMatchObject({ medianMs: 1 });
    await party.close();
  });

  test.each([
    ["it dies", 'console.error("first\\nout of luck"); process.exit(3)', /dying .*exit code 3: out of luck/],
    ["it is killed", 'process.kill(process.pid, "SIGKILL")', /dying .*SIGKILL/],
    ["it writes no JSON", 'console.log("Segmentation fault")', /JSON object from dying .*Segmentation fault/],
    ["it leaves out the times", "reply({ setting: 'usual' })", /times from dying .*usual/],
    ["a time is no number", "reply({ ...times(1), medianMs: null })", /times from dying /],
  ])("when %s", async (_, onRequest, message) => {
    const party = await Party.start(fakeParty("dying", onRequest));
    await expect(party.ask(request)).rejects.toThrow(message);
    await party.close();
  });

  test("when it is asked after it died", async () => {
    const party = await Party.start(fakeParty("dead", "process.exit(1)"));
    await expect(party.ask(request)).rejects.toThrow(PartyError);
    await expect(party.ask(request)).rejects.toThrow(/dead .*exit code 1/);
    await party.close();
  });

  test.each([
    ["there is no such program", { name: "ghost", command: "/no/such/program", args: [] }, /ghost .*ENOENT/],
    [
      "it ends before it is ready",
      { name: "early", command: process.execPath, args: ["-e", "throw new Error('No module named torch')"] },
      /early .*exit code 1/,
    ],
  ])("when %s", async (_, program, message) => {
    const failure = Party.start(program);
    await expect(failure).rejects.toThrow(message);
    await expect(failure).rejects.toBeInstanceOf(StartError);
  });
});
