import { Command } from "commander";
import { type ClipsOptions, clips } from "../api/clips.ts";
import { outputOf, positive, positiveInteger, QUIET, report } from "./options.ts";

interface Flags extends Omit<ClipsOptions, "videos"> {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export const clipsCommand = () =>
  new Command("clips")
    .description("Cut videos into pairs of a picture and a sound, to train audio-video on; needs ffmpeg")
    .argument("<dir>", "folder of videos, searched recursively")
    .requiredOption("--out <dir>", "folder for the clips")
    .option("--seconds <n>", "from one picture to the next, and of each sound (default: 2)", positive)
    .option("--rate <n>", "of the sounds, samples a second (default: 16000)", positiveInteger)
    .option("--side <px>", "pictures are scaled down to this shorter side (default: 256)", positiveInteger)
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (videos: string, { json, quiet, ...flags }: Flags) => {
      const result = await clips({ videos, ...flags }, { output: outputOf(quiet) });
      const out = result.leftOut > 0 ? `, ${result.leftOut} left out` : "";
      report(json, result, [`${result.out}: ${result.clips} clips of ${result.videos} videos${out}`]);
    });
