/** Pictures of a folder, each with what is heard with it: an audio file of the same name beside it, or one that a list names. */
import { stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { expected } from "../errors.ts";
import { AUDIO_EXTENSIONS, audioIn, imagesIn } from "./folder.ts";
import { mapInOrder } from "./parallel.ts";
import { rangeOf, type SourceOptions, type Sources, sample } from "./sources.ts";
import { rowsOf, tableText } from "./table.ts";

export interface AudioPairOptions extends Omit<SourceOptions, "modality"> {
  /** A CSV whose first line is `picture,sound`, with paths relative to the folder. @default files of the same name */
  readonly list?: string | undefined;
}

/** Relative paths of a picture and of what is heard. */
type Pair = readonly [picture: string, sound: string];

/**
 * Sorted by the pictures' paths, then by those of the audio; a picture may stand in several pairs of a list.
 * @throws UserError if there are none, or the list is no such file or names a file that is missing.
 */
export async function findAudioPairs(data: string, options: AudioPairOptions = {}): Promise<Sources> {
  const { list } = options;
  const { root, pairs, notes } = list === undefined ? await besideIn(data) : await listed(data, list);
  // As text, whose order and folders are those of the pictures.
  const taken = sample(pairs.map((pair) => pair.join("\0")).sort(), options).map((text) => text.split("\0"));
  return {
    root,
    files: taken.map(([picture]) => picture!),
    audio: taken.map(([, sound]) => sound!),
    classes: [],
    labels: new Int32Array(0),
    notes,
    ...rangeOf(options),
  };
}

interface Found {
  /** The folder that paths are relative to. */
  readonly root: string;
  readonly pairs: readonly Pair[];
  readonly notes: readonly string[];
}

async function besideIn(data: string): Promise<Found> {
  const images = await imagesIn(data); // of a folder, or a list
  const { root } = images;
  const audio = await audioIn(root);
  const stemOf = (file: string) => file.slice(0, file.length - extname(file).length);
  const preference = (file: string) =>
    (AUDIO_EXTENSIONS as readonly string[]).indexOf(extname(file).slice(1).toLowerCase());
  const byStem = new Map<string, string>();
  for (const file of audio.files) {
    const before = byStem.get(stemOf(file));
    if (before === undefined || preference(file) < preference(before)) byStem.set(stemOf(file), file);
  }
  const pairs = images.files.flatMap((picture): Pair[] => {
    const sound = byStem.get(stemOf(picture));
    return sound === undefined ? [] : [[picture, sound]];
  });
  const alone = images.files.length - pairs.length;
  if (pairs.length === 0) {
    const found = `${images.files.length} pictures and ${audio.files.length} audio files of other names`;
    throw expected(
      root,
      "audio files with the names of pictures (a.jpg, a.wav)",
      found,
      "or give --audio FILE",
    );
  }
  const note = `${root}: left out pictures without an audio file of the same name: ${alone}`;
  return {
    root,
    pairs,
    notes: [...new Set([...images.notes, ...audio.notes]), ...(alone > 0 ? [note] : [])],
  };
}

const HEADER = "picture,sound";

async function listed(root: string, list: string): Promise<Found> {
  const [first, ...rows] = rowsOf(await tableText(list, "a CSV of pictures and sounds"), list);
  const names = first?.fields.join(",") ?? "";
  if (names !== HEADER)
    throw expected(`${list}:${first?.line ?? 1}`, HEADER, JSON.stringify(names.slice(0, 80)));
  const pairs = rows.map(({ line, fields }) => {
    if (fields.length === 2 && !fields.includes("")) return { pair: fields as unknown as Pair, line };
    const found = JSON.stringify(fields.join(",").slice(0, 80));
    throw expected(`${list}:${line}`, "two paths with a comma between them", found);
  });
  if (pairs.length === 0) throw expected(list, "a pair or more", "none");
  await mapInOrder(pairs, async ({ pair, line }) => {
    for (const file of pair) {
      const found = await stat(join(root, file)).catch(() => undefined);
      if (!found?.isFile())
        throw expected(`${list}:${line}`, `a file of ${root}`, `none at ${JSON.stringify(file)}`);
    }
  });
  return { root, pairs: pairs.map(({ pair }) => pair), notes: [] };
}
