#!/usr/bin/env node
import "./start.ts";

import { createRequire } from "node:module";
import { Command, CommanderError } from "commander";
import { messageOf, UserError } from "../errors.ts";
import { codeOf, writeFailed } from "../files/atomic.ts";
import { clipsCommand } from "./clips.ts";
import { dataCommand } from "./data.ts";
import { detectCommand } from "./detect.ts";
import { doctorCommand } from "./doctor.ts";
import { embedCommand } from "./embed.ts";
import { exportCommand } from "./export.ts";
import { finetuneCommand } from "./finetune.ts";
import { graphsCommand } from "./graphs.ts";
import { probeCommand } from "./probe.ts";
import { reportCommand } from "./report.ts";
import { trainCommand } from "./train.ts";
import { webCommand } from "./web.ts";

const WRONG_USAGE = 2;
const BUG = 70;

const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
const program = new Command("ort-pretrain")
  .description("Pretrain vision encoders without labels, on ONNX Runtime")
  .version(version)
  .addCommand(trainCommand())
  .addCommand(probeCommand())
  .addCommand(finetuneCommand())
  .addCommand(detectCommand())
  .addCommand(exportCommand())
  .addCommand(embedCommand())
  .addCommand(clipsCommand())
  .addCommand(reportCommand())
  .addCommand(dataCommand())
  .addCommand(graphsCommand())
  .addCommand(webCommand())
  .addCommand(doctorCommand());
endQuietly(program);

// A reader that leaves early (`| head`) ends what is written, not the work.
process.stderr.on("error", () => {});
process.stdout.on("error", (error) => {
  if (codeOf(error) !== "EPIPE") process.exitCode = exitCodeOf(writeFailed("standard output", error));
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}

/** Errors are thrown here, for the exit codes to be ours, and told on one line, suggestions too. */
function endQuietly(command: Command): void {
  command.exitOverride();
  command.configureOutput({
    outputError: (text, write) => write(`${text.trim().replace(/\s*\n\s*/g, " ")}\n`),
  });
  for (const sub of command.commands) endQuietly(sub);
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USAGE; // it has said why
  if (error instanceof UserError) {
    process.stderr.write(`ort-pretrain: ${error.message}\n`);
    return error.exitCode;
  }
  const stack = process.env.ORT_PRETRAIN_DEBUG && error instanceof Error ? `\n${error.stack}` : "";
  process.stderr.write(`ort-pretrain: a bug, please report it: ${messageOf(error)}${stack}\n`);
  return BUG;
}
