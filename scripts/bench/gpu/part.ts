/** A part of the bench: a process of its own, with a time limit, that prints a JSON line for each result. */
import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import { extname, join } from "node:path";
import { createInterface } from "node:readline";

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** What a part says of one thing that it measured: a row of one of the tables. */
export type Line = Readonly<Record<string, unknown>> & { readonly kind: string };

export interface Ended {
  /** "ok", or why it did not end well. */
  readonly outcome: string;
  readonly seconds: number;
  /** Warnings of the product in what it said besides, each once. */
  readonly notes: readonly string[];
}

/** Process groups that run. */
const groups = new Set<number>();

/** What hangs in a driver does not end when it is killed: it is left after so long, ms. */
const GRACE = 2000;

/** Runs a part to its end or its limit, s; never throws. What it says besides goes to the file `log`. */
export function runPart(
  { file, args, env = {} }: Command,
  { limit, log, line }: { readonly limit: number; readonly log: string; readonly line: (line: Line) => void },
): Promise<Ended> {
  const started = performance.now();
  // A group of its own, so that what it starts ends with it.
  const child = spawn(file, args, {
    env: { ...process.env, ...env },
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { pid } = child;
  if (pid !== undefined) groups.add(pid);
  let said = "";
  const warnings = new Set<string>();
  const note = (text: string) => {
    appendFileSync(log, text);
    said = (said + text).slice(-4000);
  };
  child.stderr.setEncoding("utf8").on("data", note);
  createInterface({ input: child.stderr }).on("line", (text) => /^warning/.test(text) && warnings.add(text));
  createInterface({ input: child.stdout }).on("line", (text) => {
    const found = parsed(text);
    if (found) line(found);
    else note(`${text}\n`);
  });
  return new Promise((resolve) => {
    const ended = (outcome: string) => {
      clearTimeout(timer);
      resolve({ outcome, seconds: (performance.now() - started) / 1000, notes: [...warnings] });
    };
    const late = () => ended(`stopped at its limit of ${Number(limit.toFixed(1))} s`);
    const timer = setTimeout(() => {
      child.removeAllListeners("close").once("close", late);
      setTimeout(late, GRACE).unref();
      end(pid);
    }, 1000 * limit);
    child.once("error", (error) => ended(error.message));
    child.once("exit", () => end(pid)); // with what it left running
    child.once("close", (code, signal) =>
      ended(code === 0 ? "ok" : [signal ?? `ended with ${code}`, complaint(said)].filter(Boolean).join(": ")),
    );
  });
}

/** Ends all parts that run. */
export const endParts = (): void => groups.forEach(end);

function end(group: number | undefined): void {
  if (group === undefined || !groups.delete(group)) return;
  try {
    process.kill(-group, "SIGKILL");
  } catch {} // it has ended
}

function parsed(text: string): Line | undefined {
  if (!text.startsWith("{")) return undefined;
  try {
    const value = JSON.parse(text);
    return typeof value.kind === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The line that tells most. */
export function complaint(said: string): string {
  const lines = said.trim().split("\n");
  const telling = lines.findLast((line) => /error|expected/i.test(line) && !/^\s*at /.test(line));
  return (telling ?? lines.at(-1)!).trim().slice(0, 300);
}

const ROOT = join(import.meta.dirname, "../../..");
const BUILT = extname(import.meta.filename) === ".js";
const node = (file: string, args: readonly string[]): Command => ({
  file: process.execPath,
  args: [...process.execArgv, file, ...args],
});

/** A script of this folder: from its source, or built, as this one is. */
export const script = (name: string, args: readonly string[]): Command =>
  node(join(import.meta.dirname, `${name}${extname(import.meta.filename)}`), args);

/** The program, likewise. */
export const program = (...args: readonly string[]): Command =>
  node(join(ROOT, BUILT ? "dist/cli/main.js" : "src/cli/main.ts"), args);

/** Tells a result. */
export const say = (line: Line): void => void process.stdout.write(`${textOf(line)}\n`);

/** As JSON, with "NaN" and "Infinity" for what JSON makes null, which would pass for 0 in a comparison. */
export const textOf = (line: Line): string =>
  JSON.stringify(line, (_, value) =>
    typeof value === "number" && !Number.isFinite(value) ? `${value}` : value,
  );

export const flags = (values: Readonly<Record<string, string | number | boolean | undefined>>): string[] =>
  Object.entries(values).flatMap(([name, value]) =>
    value === undefined || value === false ? [] : value === true ? [`--${name}`] : [`--${name}`, `${value}`],
  );
