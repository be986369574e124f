/** SimCLR's views: two of each image. */
import { join } from "node:path";
import { compareRates, summarise } from "./compare.ts";
import { noiseFolder } from "./images.ts";
import { flags, ours, peer, type Row, SMALL_IMAGES, smallImages, THREADS } from "./row.ts";

const PHOTOS = 384;
/** Much as ImageNet's are. */
const PHOTO_SIZES = [
  [500, 375],
  [375, 500],
  [640, 480],
  [400, 300],
] as const;

export const VIEWS_SMALL: Row = {
  what: "SimCLR views, 32 px, from memory",
  aim: ">= 10",
  measure: async (s) => {
    const args = flags({ data: await smallImages(s), limit: SMALL_IMAGES, size: 32, batch: 256 });
    const theirs = peer(s, "views", ...args, ...flags({ strength: 0.5, blur: 0 }), "--in-memory");
    const { rounds } = await compareRates(
      ours("views", ...args, "--in-memory"),
      { [`${THREADS} workers`]: theirs },
      s.rounds,
    );
    return summarise(rounds, "views/s", "greatest");
  },
};

export const VIEWS_PHOTOS: Row = {
  what: "SimCLR views, 224 px, from a folder of JPEGs, decoding included",
  aim: ">= 2",
  measure: async (s) => {
    const data = await noiseFolder(join(s.out, "photos"), PHOTOS, PHOTO_SIZES);
    const args = flags({ data, limit: PHOTOS, size: 224, batch: 64 });
    const theirs = peer(s, "views", ...args, ...flags({ strength: 1, blur: 0.5 }));
    const { rounds } = await compareRates(
      ours("views", ...args),
      { [`${THREADS} workers`]: theirs },
      s.rounds,
    );
    return { ...summarise(rounds, "views/s", "greatest"), note: "300 to 640 px, noise in octaves as JPEG" };
  },
};
