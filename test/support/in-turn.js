/**
 * Runs the built program once for each command line, in this one process: `in-turn.js MAIN`, the command lines as JSON on
 * standard input. Each run has a program of its own, for it is imported anew; what all of them load, such as the runtime,
 * is loaded once. Prints for each {code, stdout, stderr} as JSON; something that one leaves open keeps the process alive.
 */
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , main] = process.argv;
const streams = { stdout: process.stdout, stderr: process.stderr };
// Every program listens to them.
for (const emitter of [process, process.stdout, process.stderr]) emitter.setMaxListeners(0);
const written = process.stdout.write.bind(process.stdout);

const ended = [];
for (const [i, args] of JSON.parse(readFileSync(0, "utf8")).entries()) {
  const said = { stdout: "", stderr: "" };
  for (const [name, stream] of Object.entries(streams))
    stream.write = (text) => {
      said[name] += text;
      return true;
    };
  process.argv = [process.execPath, main, ...args];
  process.exitCode = undefined;
  await import(`${pathToFileURL(main)}?${i}`);
  ended.push({ code: process.exitCode ?? 0, ...said });
}
process.exitCode = 0;
written(JSON.stringify(ended));
