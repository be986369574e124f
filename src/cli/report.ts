import { Command } from "commander";
import { report as makeReport, type ReportOptions } from "../api/report.ts";
import { CUDA_LIBRARIES, DEVICE, outputOf, PROVIDER, QUIET, report, threadCount } from "./options.ts";

interface Flags extends ReportOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export const reportCommand = () =>
  new Command("report")
    .description(
      "Show a run as one page: settings, curves, views, neighbours, a map; or several runs side by side",
    )
    .argument("<run...>", "the folders of one run or more")
    .option("--out <file>", "the page (default: report.html in the run's folder; needed of several runs)")
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (runs: readonly string[], { json, quiet, ...options }: Flags) => {
      const result = await makeReport(runs, options, { output: outputOf(quiet) });
      report(json, result, [
        `${result.report}: ${(result.bytes / 1e6).toFixed(1)} MB`,
        ...result.leftOut.map((line) => `left out: ${line}`),
      ]);
    });
