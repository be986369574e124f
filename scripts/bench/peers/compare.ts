/** Measures both sides alternately and summarises. */
import { setTimeout as sleep } from "node:timers/promises";
import { median } from "../measure.ts";
import { type Command, openProgram, type Program } from "./program.ts";

/** The results of one round: ours, and each way of running the peer, by its name. */
export interface Round {
  readonly ours: number;
  readonly peers: Readonly<Record<string, number>>;
}

export interface Result {
  readonly ours: number;
  /** Of the way that did best. */
  readonly peer: number;
  /** Median over the rounds; above 1 ours is faster, or takes more. */
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
  readonly unit: string;
  /** Every way of running the peer with its result, the best first; or why it did not run. */
  readonly ways: Readonly<Record<string, number | string>>;
  readonly note?: string;
}

export type Peers = Readonly<Record<string, Command>>;

/** Of several ways of running the peer the best counts: the greatest of rates, the least of costs. */
export function summarise(
  rounds: readonly Round[],
  unit: string,
  best: "greatest" | "least",
  failed: Readonly<Record<string, string>> = {},
): Result {
  const sign = best === "greatest" ? -1 : 1;
  const ways = Object.keys(rounds.at(-1)!.peers)
    .map((way) => [way, median(rounds.map((r) => r.peers[way]!))] as const)
    .sort(([, a], [, b]) => sign * (a - b));
  const [chosen, peer] = ways[0]!;
  const ratios = rounds.map((r) => r.ours / r.peers[chosen]!);
  return {
    ours: median(rounds.map((r) => r.ours)),
    peer,
    ratio: median(ratios),
    low: Math.min(...ratios),
    high: Math.max(...ratios),
    unit,
    ways: { ...Object.fromEntries(ways), ...failed },
  };
}

export const inMegabytes = (rounds: readonly Round[]): Round[] =>
  rounds.map(({ ours, peers }) => ({
    ours: ours / 1e6,
    peers: Object.fromEntries(Object.entries(peers).map(([way, bytes]) => [way, bytes / 1e6])),
  }));

/** Pause until threads that spin while they wait for work have gone to sleep, ms. */
const PAUSE = 100;

export interface Rates {
  readonly rounds: readonly Round[];
  readonly failed: Readonly<Record<string, string>>;
}

/**
 * Items a second, measured alternately, all processes warm. `alike` looks at ours and each of the peers first, and
 * throws if they are not the same; `each` follows our turn.
 */
export async function compareRates(
  ours: Command,
  peers: Peers,
  count: number,
  alike: (ours: Program, peer: Program) => Promise<void> = async () => {},
  each: (ours: Program) => Promise<void> = async () => {},
): Promise<Rates> {
  const running: Program[] = [];
  const run = async (program: Program) => {
    await sleep(PAUSE);
    return (await program.ask<{ rate: number }>("run")).rate;
  };
  try {
    const own = await openProgram(ours);
    running.push(own);
    const { opened, failed } = await openEach(peers);
    running.push(...opened.values());
    for (const peer of opened.values()) await alike(own, peer);
    await run(own); // the first run touches the memory; the peers' was when they were opened
    const rounds: Round[] = [];
    for (let i = 0; i < count; i++) {
      const rate = await run(own);
      await each(own);
      const theirs: Record<string, number> = {};
      for (const [way, peer] of opened) theirs[way] = await run(peer);
      rounds.push({ ours: rate, peers: theirs });
    }
    return { rounds, failed };
  } finally {
    for (const program of running) await program.close();
  }
}

/** The first way must run; another that does not is left out, with its reason. */
async function openEach(peers: Peers) {
  const opened = new Map<string, Program>();
  const failed: Record<string, string> = {};
  for (const [way, command] of Object.entries(peers)) {
    try {
      const program = await openProgram(command);
      await program.ask("run"); // touches the memory, and compiles where this way does
      opened.set(way, program);
    } catch (error) {
      if (opened.size === 0) throw error;
      failed[way] = `did not run: ${(error as Error).message}`;
    }
  }
  return { opened, failed };
}

/** Runs before memory is measured. */
const RUNS = 3;

/** Peak memory of fresh processes, bytes, measured alternately. */
export async function comparePeaks(ours: Command, peers: Peers, count: number): Promise<Rates> {
  const peak = async (command: Command) => {
    const program = await openProgram(command);
    try {
      for (let i = 0; i < RUNS; i++) await program.ask("run");
      return (await program.ask<{ bytes: number }>("memory")).bytes;
    } finally {
      await program.close();
    }
  };
  const failed: Record<string, string> = {};
  const rounds: Round[] = [];
  for (let i = 0; i < count; i++) {
    const bytes = await peak(ours);
    const theirs: Record<string, number> = {};
    for (const [way, command] of Object.entries(peers)) {
      if (failed[way]) continue;
      try {
        theirs[way] = await peak(command);
      } catch (error) {
        if (Object.keys(theirs).length === 0) throw error;
        failed[way] = `did not run: ${(error as Error).message}`;
      }
    }
    rounds.push({ ours: bytes, peers: theirs });
  }
  return { rounds, failed };
}
