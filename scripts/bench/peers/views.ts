/** SimCLR's views: two of each image. */
import { compareRates, summarise } from "./compare.ts";
import { IMAGENET, noiseFolder, PHONE, type Photos } from "./images.ts";
import { flags, ours, peer, type Row, SMALL_IMAGES, smallImages, THREADS } from "./row.ts";

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

const photosRow = (what: string, photos: Photos, batch: number, note: string): Row => ({
  what: `SimCLR views, 224 px, from a folder of ${what}, decoding included`,
  aim: ">= 2",
  measure: async (s) => {
    const data = await noiseFolder(s.out, photos);
    const args = flags({ data, limit: photos.count, size: 224, batch });
    const theirs = peer(s, "views", ...args, ...flags({ strength: 1, blur: 0.5 }));
    const { rounds } = await compareRates(
      ours("views", ...args),
      { [`${THREADS} workers`]: theirs },
      s.rounds,
    );
    return { ...summarise(rounds, "views/s", "greatest"), note: `noise in octaves as JPEG, ${note}` };
  },
});

export const VIEWS_PHOTOS = [
  photosRow("JPEGs", IMAGENET, 64, "300 to 640 px"),
  photosRow(
    "12-megapixel JPEGs",
    PHONE,
    8,
    "ours decoded at an eighth of their sides, for its sources have 256 px on the shorter, the peer's in full",
  ),
];
