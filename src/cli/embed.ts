import { resolve } from "node:path";
import { Command, Option } from "commander";
import { modalityAt, openEmbedder } from "../api/audio-encoder.ts";
import { embedToFile } from "../api/embed-file.ts";
import { checkEmbeddingFile, type EncoderOptions } from "../api/encoder.ts";
import { findImages } from "../data/sources.ts";
import { UserError } from "../errors.ts";
import { type ForeignFlags, splitForeign, withForeignOptions } from "./foreign.ts";
import {
  CUDA_LIBRARIES,
  DEVICE,
  outputOf,
  PROVIDER,
  positiveInteger,
  QUIET,
  RANGE,
  report,
  threadCount,
  valueRange,
} from "./options.ts";

interface Flags
  extends Pick<EncoderOptions, "provider" | "device" | "cudaLibraries" | "threads">,
    ForeignFlags {
  readonly data: string;
  readonly out: string;
  readonly format?: string;
  readonly limit?: number;
  readonly range?: readonly [number, number];
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const FORMATS = ["npy", "parquet"] as const;

export const embedCommand = () =>
  withForeignOptions(new Command("embed"))
    .description(
      "Write the features of a folder of images, with their paths, as .npy or .parquet; goes on where it was cut off",
    )
    .argument("<encoder>", "encoder.onnx, a run's folder, an audio-encoder.onnx, or a third-party model")
    .requiredOption("--data <dir>", "folder of images, or of audio files, searched recursively")
    .requiredOption(
      "--out <file>",
      "a .npy file, the list of paths goes beside it; or a .parquet file with both",
    )
    .addOption(
      new Option("--format <name>", "npy or parquet (default: what --out ends in, else npy)").choices(
        FORMATS,
      ),
    )
    .option("--limit <n>", "a fixed sample of this many images", positiveInteger)
    .option("--range <low,high>", `${RANGE} (default: the encoder's)`, valueRange)
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (path: string, flags: Flags) => {
      const { model, others } = splitForeign(flags);
      const { data, out, format, limit, range, json, quiet, ...where } = others;
      const surroundings = { output: outputOf(quiet) };
      const ending = format ?? FORMATS.find((name) => out.endsWith(`.${name}`)) ?? "npy";
      if (!out.endsWith(`.${ending}`))
        throw new UserError(`--out: expected a file that ends in .${ending}, found ${out}`);
      const sources = await findImages(data, { limit, range, modality: await modalityAt(path) });
      const encoder = await openEmbedder(path, { ...where, model }, surroundings);
      await checkEmbeddingFile(out, sources.files.length, encoder.metadata.features);
      const settings = JSON.stringify(where); // which rounding may depend on
      const written = await embedToFile(encoder, sources, out, { settings }, surroundings);
      await encoder.close();
      const { index, images, length } = written;
      const paths = index === undefined ? "with their paths" : `paths in ${index}`;
      const listed = index !== undefined && { index: resolve(index) };
      report(json, { features: resolve(out), ...listed, images, length }, [
        `${out}: float32 [${images}, ${length}]; ${paths}`,
      ]);
    });
