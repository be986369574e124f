/** What was seen in a run's videos, kept as videos.json in its folder: to go on need not decode them all again. */
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as z from "zod";
import { lookAtVideo, type Video } from "../data/video.ts";
import { readWhole, writeFileAtomic } from "../files/atomic.ts";
import { parseJson } from "../files/safetensors.ts";

const times = z.array(z.number().int());
const seenSchema = z.record(
  z.string(),
  z.strictObject({
    bytes: z.number(),
    modified: z.number(),
    side: z.number().positive(),
    times,
    shots: times,
  }),
);
type Entry = z.infer<typeof seenSchema>[string];

const MAX_SEEN = 2 ** 28;

export interface Seen {
  /** As `lookAtVideo`, but not again at a file of the same size and time. */
  look(path: string, maxFrames: number): Promise<Video>;
  /** Writes what was looked at, if anything was. */
  write(run: string): Promise<void>;
}

/** With what the run's folder knows; of one that is damaged, or of no run, nothing. */
export async function openSeen(run?: string): Promise<Seen> {
  const known = run === undefined ? {} : await read(fileOf(run));
  const seen: Record<string, Entry> = {};
  return {
    async look(path, maxFrames) {
      const { size: bytes, mtimeMs: modified } = await stat(path);
      const key = resolve(path);
      const own = Object.hasOwn(known, key) ? known[key] : undefined;
      const same = own?.bytes === bytes && own.modified === modified;
      const video = same
        ? { ...own, times: Float64Array.from(own.times) }
        : await lookAtVideo(path, maxFrames);
      const { side, times, shots } = video;
      seen[key] = { bytes, modified, side, times: Array.from(times), shots: [...shots] };
      return video;
    },
    async write(run) {
      if (Object.keys(seen).length > 0) await writeFileAtomic(fileOf(run), `${JSON.stringify(seen)}\n`);
    },
  };
}

const fileOf = (run: string) => join(run, "videos.json");

async function read(path: string): Promise<Readonly<Record<string, Entry>>> {
  if (!existsSync(path)) return {};
  try {
    return seenSchema.parse(parseJson(await readWhole(path, MAX_SEEN, "what was seen of videos"), path));
  } catch {
    return {}; // seen anew; the run's fingerprint says whether it is the same
  }
}
