/** Runs the command line as users do, as a process of its own, or many command lines in one. */
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { MAIN } from "./built.ts";

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process that runs, and what it ends with. */
export function start(
  args: readonly string[],
  options: { cwd?: string; uid?: number } = {},
): { child: ChildProcess; ended: Promise<Ended> } {
  return ending(spawn(process.execPath, [MAIN, ...args], options));
}

function ending(child: ChildProcessWithoutNullStreams): { child: ChildProcess; ended: Promise<Ended> } {
  const [out, err]: [string[], string[]] = [[], []];
  child.stdout.setEncoding("utf8").on("data", (text: string) => out.push(text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => err.push(text));
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout: out.join(""), stderr: err.join("") }));
  });
  return { child, ended };
}

export const run = (args: readonly string[], cwd?: string): Promise<Ended> =>
  start(args, cwd === undefined ? {} : { cwd }).ended;

const IN_TURN = fileURLToPath(new URL("in-turn.js", import.meta.url));

/** One command line after the other in a process that ends by itself: to start one for each is most of the work. */
export async function runInTurn(commands: readonly (readonly string[])[]): Promise<Ended[]> {
  const child = spawn(process.execPath, [IN_TURN, MAIN]);
  child.stdin.end(JSON.stringify(commands));
  const { ended } = ending(child);
  const { code, stdout, stderr } = await ended;
  expect(code, stderr).to.equal(0);
  expect(stderr).to.equal("");
  return JSON.parse(stdout);
}

/** Runs to the end with exit code 0 and gives the one JSON object on standard output. */
export async function json(args: readonly string[], cwd?: string): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await run([...args, "--json"], cwd);
  expect(code, stderr).to.equal(0);
  expect(stdout).to.match(/^\{.*\}\n$/);
  return JSON.parse(stdout);
}

/** What is said on standard error besides progress and warnings. */
export const errorsIn = ({ stderr }: Ended): string[] =>
  stderr
    .split("\n")
    .filter(
      (line) =>
        line &&
        !/^(warning: |epoch \d|features of |going on |about |views of |kNN: |report: |.*: \d+ images, )/.test(
          line,
        ),
    );

/** The one line that a refusal says; nothing on standard output, no trace of a stack. */
export function refusal(ended: Ended, code = 2): string {
  const lines = errorsIn(ended);
  expect(ended.code, ended.stderr).to.equal(code);
  expect(lines, ended.stderr).to.have.length(1);
  expect(lines[0]).to.match(/^(ort-pretrain|error): /);
  expect(lines[0]).not.to.match(/a bug, please report/);
  expect(ended.stdout).to.equal("");
  return lines[0]!;
}

/** The lines of a run's metrics.jsonl that are whole. */
export async function metricsOf(runDir: string): Promise<Record<string, number>[]> {
  const text = await readFile(join(runDir, "metrics.jsonl"), "utf8").catch(() => "");
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

/** What a line of metrics.jsonl says of what was computed, not of time and memory. */
export const computedOf = ({
  imagesPerSecond,
  waitShare,
  peakRssBytes,
  ...rest
}: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(rest).filter(([name]) => !/seconds$/i.test(name)));

/** Resolves once the run has logged `steps` steps, or has ended. */
export async function reaches(runDir: string, steps: number, child: ChildProcess): Promise<void> {
  while (child.exitCode === null && child.signalCode === null) {
    if (((await metricsOf(runDir)).at(-1)?.step ?? 0) >= steps) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
