/**
 * `data check` on 10,000 images among which copies are planted, of five kinds: seconds, copies found, false alarms.
 * `tsx scripts/bench/planted.ts --data DIR`, DIR any folder of as many images; prints a Markdown table.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import sharp, { type Sharp } from "sharp";
import { findImages } from "../../src/data/sources.ts";
import { checkData } from "../../src/index.ts";
import { randomFor } from "../../src/random.ts";

const { values } = parseArgs({
  options: {
    data: { type: "string", default: "data/train" },
    out: { type: "string", default: "runs/planted" },
    images: { type: "string", default: "10000" },
    each: { type: "string", default: "200" },
    near: { type: "string" },
    encoder: { type: "string" },
    keep: { type: "boolean", default: false },
  },
});
const [images, each] = [Number(values.images), Number(values.each)];

interface Picture {
  readonly data: Buffer;
  readonly width: number;
  readonly height: number;
}

const open = ({ data, width, height }: Picture): Sharp =>
  sharp(data, { raw: { width, height, channels: 3 } });

/** Least and greatest share of a side that is cut off in all; a crop is scaled back to the size it had. */
const CUT = [0.04, 0.12] as const;

/** How a copy is made, and how its file's name ends. */
const KINDS: Readonly<Record<string, [ending: string, make: (picture: Picture, i: number) => Sharp]>> = {
  exact: ["png", (picture) => open(picture).png()],
  "re-encoded (JPEG, quality 70)": ["jpg", (picture) => open(picture).jpeg({ quality: 70 })],
  "resized (3/4 to 3/2)": [
    "png",
    (picture, i) => {
      const factor = randomFor("resized", i).uniform(0.75, 1.5);
      const size = (side: number) => Math.round(side * factor);
      return open(picture).resize(size(picture.width), size(picture.height), { fit: "fill" }).png();
    },
  ],
  "cropped (4 to 12 % of each side's length)": [
    "png",
    (picture, i) => {
      const random = randomFor("cropped", i);
      const { width, height } = picture;
      const kept = (side: number) => Math.round(side * (1 - random.uniform(...CUT)));
      const [w, h] = [kept(width), kept(height)];
      const box = {
        left: random.integer(width - w + 1),
        top: random.integer(height - h + 1),
        width: w,
        height: h,
      };
      return open(picture).extract(box).resize(width, height, { fit: "fill" }).png();
    },
  ],
  "brighter or darker (by 10 to 20 %)": [
    "png",
    (picture, i) => {
      const random = randomFor("brightness", i);
      const by = random.uniform(0.1, 0.2) * (random.chance(0.5) ? 1 : -1);
      return open(picture)
        .linear(1 + by, 0)
        .png();
    },
  ],
};

const root = join(values.out, "images");
if (!values.keep) {
  await rm(root, { recursive: true, force: true });
  await mkdir(root, { recursive: true });
  const { root: from, files } = await findImages(values.data, {
    limit: images - each * Object.keys(KINDS).length,
  });
  const read = async (file: string): Promise<Picture> => {
    const { data, info } = await sharp(join(from, file))
      .flatten()
      .toColourspace("srgb")
      .raw()
      .toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height };
  };
  for (const [i, file] of files.entries())
    await open(await read(file))
      .png()
      .toFile(join(root, `${i}.png`));
  const chosen = randomFor("planted").shuffled([...files.entries()]);
  for (const [kind, [ending, make]] of Object.values(KINDS).entries()) {
    for (const [i, file] of chosen.slice(kind * each, (kind + 1) * each))
      await make(await read(file), i).toFile(join(root, `${i}-${kind}.${ending}`));
  }
}

const began = performance.now();
const found = await checkData(
  root,
  {
    ...(values.near && { near: Number(values.near) }),
    ...(values.encoder && { encoder: values.encoder }),
  },
  { output: { stream: process.stderr, quiet: false } },
);
const seconds = (performance.now() - began) / 1000;

/** What a file is a copy of. */
const originOf = (file: string) => file.split(/[-.]/)[0]!;
const kindOf = (file: string) => file.match(/-(\d)\./)?.[1];
const groups = [...found.duplicates, ...found.near];
const kinds = Object.keys(KINDS).map((name, kind) => {
  let right = 0;
  for (const { files } of groups) {
    const copies = files.filter((file) => kindOf(file) === String(kind));
    for (const copy of copies)
      if (files.some((file) => file !== copy && originOf(file) === originOf(copy))) right++;
  }
  return `| ${name} | ${each} | ${right} |`;
});
const alarms = groups.flatMap(({ files: [kept, ...others] }) =>
  others.filter((file) => originOf(file) !== originOf(kept!)).map((file) => `${kept} ${file}`),
);
console.log(`| copies | planted | found |
|---|---|---|
${kinds.join("\n")}

${found.images} images in ${seconds.toFixed(1)} s; images taken for a copy of another: ${alarms.length}${
  alarms.length > 0 ? `\n\n${alarms.slice(0, 40).join("\n")}` : ""
}`);
