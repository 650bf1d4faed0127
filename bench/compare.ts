/** The comparison: for every case the programs work in turns, round by round, each for a slice of time. */

import type { Case } from "./cases.js";
import { Party, PartyError, type Program, type Reply, type Request, StartError } from "./party.js";

/** A program that fovea is compared with. */
export interface Peer extends Program {
  readonly trains: boolean;
}

export interface Plan {
  readonly ours: Program;
  readonly peers: readonly Peer[];
  readonly cases: readonly Case[];
  readonly threads: number;
  readonly rounds: number;
  /** Length of a slice; a slow network takes longer, since three steps are the least. */
  readonly seconds: number;
}

/** What one program did in one case: a slice a round. */
export interface Measurement {
  readonly party: string;
  readonly setting: string;
  readonly slices: readonly Reply[];
}

export interface CaseResult extends Case {
  readonly ours: Measurement;
  readonly peers: readonly Measurement[];
}

export interface Comparison {
  /** Of every program that ran, by its name: `"torch 2.15.0"`. */
  readonly versions: Readonly<Record<string, string>>;
  readonly results: readonly CaseResult[];
}

/** What is told while it runs. */
export interface Listener {
  /** A peer that cannot be started is left out from then on. */
  absent(peer: Peer, reason: string): void;
  /** A case, or a peer's part of it, that could not be measured. */
  failed(one: Case, reason: string): void;
  begin(one: Case): void;
  done(result: CaseResult): void;
}

/** Pause before a slice: threads of the program before may spin for a moment after their last step. */
const settleMs = 200;

/** Length of the slice in which a program builds its network and finds its fastest setting. */
const trialSeconds = 0.2;

/** Measures every case; what fails is told to the listener and left out of the result. */
export async function compare(plan: Plan, listener: Listener): Promise<Comparison> {
  const versions: Record<string, string> = {};
  const results: CaseResult[] = [];
  const absent = new Set<Peer>();
  for (const one of plan.cases) {
    listener.begin(one);
    const contest = new Contest(plan, one, listener);
    try {
      await contest.enter(plan.ours);
      for (const peer of plan.peers) {
        if (absent.has(peer) || (one.mode === "train" && !peer.trains)) continue;
        const reason = await contest.invite(peer);
        if (reason === undefined) continue;
        absent.add(peer);
        listener.absent(peer, reason);
      }
      const result = await contest.run();
      Object.assign(versions, contest.versions());
      results.push(result);
      listener.done(result);
    } catch (error) {
      listener.failed(one, sentence(error));
    } finally {
      await contest.close();
    }
  }
  return { versions, results };
}

interface Entry {
  readonly program: Program;
  readonly party: Party;
  readonly setting: string;
  readonly slices: Reply[];
}

/** One case: the programs in it, from their start to their end, so that the memory of each is that of this case. */
class Contest {
  readonly #plan: Plan;
  readonly #case: Case;
  readonly #listener: Listener;
  readonly #started: Party[] = [];
  readonly #entries: Entry[] = [];

  constructor(plan: Plan, one: Case, listener: Listener) {
    this.#plan = plan;
    this.#case = one;
    this.#listener = listener;
  }

  /**
   * Starts a program and lets it find its fastest setting. To train it is started anew with that one alone, so that its
   * peak memory is that of the one.
   *
   * @throws StartError when there is no such program; PartyError when it cannot do this case
   */
  async enter(program: Program): Promise<void> {
    const trial = await this.#start(program);
    const { setting } = await trial.ask(this.#request(trialSeconds));
    let party = trial;
    if (this.#case.mode === "train") {
      await trial.close();
      party = await this.#start(program);
    }
    this.#entries.push({ program, party, setting, slices: [] });
  }

  /** Enters a peer; says why when it does not even start. The case goes on without one that cannot do it. */
  async invite(peer: Peer): Promise<string | undefined> {
    try {
      await this.enter(peer);
    } catch (error) {
      if (error instanceof StartError) return error.message;
      this.#listener.failed(this.#case, sentence(error));
    }
    return undefined;
  }

  /** Rounds of slices, the programs in turns. */
  async run(): Promise<CaseResult> {
    for (let round = 0; round < this.#plan.rounds; round += 1) {
      for (const entry of [...this.#entries]) await this.#slice(entry);
    }
    const [ours, ...peers] = this.#entries.map(({ program, setting, slices }) => {
      return { party: program.name, setting, slices };
    });
    if (ours === undefined) throw new PartyError("Expected fovea to take part.");
    return { ...this.#case, ours, peers };
  }

  async close(): Promise<void> {
    await Promise.all(this.#started.map((party) => party.close()));
  }

  versions(): Record<string, string> {
    return Object.fromEntries(this.#entries.map(({ program, party }) => [program.name, party.version]));
  }

  /** Its next slice; a peer that fails takes no further part. */
  async #slice(entry: Entry): Promise<void> {
    const { party, setting, slices } = entry;
    await new Promise((resolve) => setTimeout(resolve, settleMs));
    try {
      slices.push(await party.ask({ ...this.#request(this.#plan.seconds), setting }));
    } catch (error) {
      if (entry.program === this.#plan.ours) throw error;
      this.#entries.splice(this.#entries.indexOf(entry), 1);
      this.#listener.failed(this.#case, sentence(error));
    }
  }

  async #start(program: Program): Promise<Party> {
    const party = await Party.start(program);
    this.#started.push(party);
    return party;
  }

  #request(seconds: number): Request {
    const { network: model, mode, batch } = this.#case;
    return { model, mode: mode === "train" ? "train" : "infer", batch, threads: this.#plan.threads, seconds };
  }
}

function sentence(error: unknown): string {
  if (error instanceof PartyError) return error.message;
  throw error;
}
