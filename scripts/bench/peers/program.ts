/** A process that takes questions as lines of text and answers each with a line of JSON. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

export interface Program {
  /** @throws Error with the end of what it wrote on standard error, if it ends without an answer. */
  ask<T>(question: string): Promise<T>;
  /** Resolves when it has ended. */
  close(): Promise<void>;
}

/** Starts a program; resolves when it says that it is ready. */
export async function openProgram(command: Command): Promise<Program> {
  const { child, ended, complaint } = start(command);
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (!done) return JSON.parse(value);
    await ended;
    throw new Error(complaint());
  };
  await answer();
  return {
    ask: async (question) => {
      child.stdin!.write(`${question}\n`);
      return answer();
    },
    close: async () => {
      child.stdin!.end();
      await ended;
    },
  };
}

/**
 * Runs a program to its end. Seconds from its start, before the process is made: until `first` resolves, or it wrote
 * its first line; and until its end.
 */
export async function timeProgram(
  command: Command,
  first?: (running: () => boolean) => Promise<void>,
): Promise<{ first: number; whole: number }> {
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  const { child, ended, complaint } = start(command);
  let firstAt = Number.NaN;
  const seen = () => {
    if (Number.isNaN(firstAt)) firstAt = seconds();
  };
  if (first) first(() => child.exitCode === null).then(seen);
  else child.stdout!.once("data", seen);
  child.stdout!.resume();
  child.stdin!.end();
  if ((await ended) !== 0) throw new Error(complaint());
  return { first: firstAt, whole: seconds() };
}

function start({ file, args }: Command) {
  const child: ChildProcess = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-20_000);
  });
  child.stdin!.on("error", () => {}); // its end says what is wrong
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", (error) => {
      said += error.message;
      resolve(null);
    });
    child.once("close", resolve);
  });
  const complaint = () => {
    const lines = said.trim().split("\n");
    const reason = lines.filter((line) => /error/i.test(line)).at(-1) ?? lines.at(-1);
    return `${file} ${args.join(" ")}: ${reason}`;
  };
  return { child, ended, complaint };
}
