/** What positives come from: crops of one image, frames of a clip, boxes of a track, or pairs that people have. */
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { clipsIn, type Looking } from "../data/clips.ts";
import { imagesAndVideosIn, imagesIn } from "../data/folder.ts";
import { EVER, type Group, openItems } from "../data/items.ts";
import { pairsIn } from "../data/pairs.ts";
import { sizesOf } from "../data/sizes.ts";
import type { SourceOptions, Sources } from "../data/sources.ts";
import { groupsOfTracks, tracksIn } from "../data/tracks.ts";
import { expected, unknownName } from "../errors.ts";
import { readWhole } from "../files/atomic.ts";
import type { Manifest } from "../spec.ts";
import { imagesInTurn } from "../train/draws.ts";
import type { PositivesConfig } from "../train/run-folder.ts";
import { flagOf } from "./compare.ts";

export const POSITIVES = ["crops", "frames", "tracks", "pairs"] as const;
export type PositivesName = (typeof POSITIVES)[number];

export const positivesNamed = (name: string): PositivesName => {
  const found = POSITIVES.find((known) => known === name);
  if (!found) throw unknownName("source of positives", name, POSITIVES);
  return found;
};

export interface PositivesOptions {
  /** @default "crops" */
  readonly positives?: PositivesName | undefined;
  /**
   * How far apart the two pictures of a pair may be: seconds, such as "1.5s", or frames, such as "8". @default "1s" of frames,
   * or "8" where a clip is a folder; any two of a track
   */
  readonly window?: string | undefined;
  /** Frames of a clip that are further apart are unrelated; those between are never in one epoch. @default ten windows */
  readonly far?: string | undefined;
  /** The file of `tracks`. */
  readonly tracks?: string | undefined;
  /** What is shown about a track's box: that share of its width and height on either side. @default 0.1 */
  readonly trackMargin?: number | undefined;
  /** The file of `pairs`. */
  readonly pairs?: string | undefined;
  /** Of `crops`: the least that a crop shares with the first one of its image, of the smaller of the two. @default 0 */
  readonly cropOverlap?: number | undefined;
}

/** What is asked for, before the data is looked at; undefined for crops. */
type Asked = {
  readonly [K in PositivesConfig["kind"]]: Partial<Extract<PositivesConfig, { kind: K }>> & { kind: K };
}[PositivesConfig["kind"]];

/** Which options go with which source. */
const TAKES: Readonly<Record<PositivesName, readonly (keyof PositivesOptions)[]>> = {
  crops: ["cropOverlap"],
  frames: ["window", "far"],
  tracks: ["tracks", "trackMargin", "window"],
  pairs: ["pairs"],
};

/** @throws UserError if an option is missing, or does not go with the source. */
export function askedPositives(options: PositivesOptions): Asked | undefined {
  const {
    positives = "crops",
    window,
    far,
    tracks,
    trackMargin: margin = 0.1,
    pairs,
    cropOverlap = 0,
  } = options;
  for (const option of ["window", "far", "tracks", "trackMargin", "pairs", "cropOverlap"] as const) {
    if (options[option] === undefined || TAKES[positives].includes(option)) continue;
    const sources = POSITIVES.filter((source) => TAKES[source].includes(option)).join(" or ");
    throw expected(flagOf(option), `it with --positives ${sources}`, positives);
  }
  const fileOf = (file: string | undefined) => {
    if (file === undefined) throw expected(`--positives ${positives}`, `--${positives} FILE`, "none");
    return resolve(file);
  };
  const given = (text: string | undefined) => (text === undefined ? undefined : textOf(extentOf(text)));
  switch (positives) {
    case "crops":
      if (cropOverlap < 0 || cropOverlap > 1) throw expected("--crop-overlap", "0 to 1", `${cropOverlap}`);
      return undefined;
    case "frames":
      return { kind: "frames", ...defined({ window: given(window), far: given(far) }) };
    case "tracks":
      if (!(margin >= 0 && margin <= 100)) throw expected("--track-margin", "0 to 100", `${margin}`);
      return { kind: "tracks", file: fileOf(tracks), margin, window: given(window) ?? null };
    case "pairs":
      return { kind: "pairs", file: fileOf(pairs) };
  }
}

const defined = <T extends object>(values: T) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };

/** A length of time: seconds or frames. */
interface Extent {
  readonly value: number;
  readonly seconds: boolean;
}

function extentOf(text: string): Extent {
  const [, number, unit] = /^(\d+(?:\.\d+)?|\.\d+)(s?)$/.exec(text) ?? [];
  const value = Number(number);
  const seconds = unit === "s";
  if (number === undefined || (!seconds && !Number.isInteger(value)) || value === 0 || value > 1e6)
    throw expected("--window or --far", 'seconds such as "1.5s" or whole frames such as "8"', `"${text}"`);
  return { value, seconds };
}

const textOf = ({ value, seconds }: Extent): string => `${value}${seconds ? "s" : ""}`;

/** Of extents of places in time, which are microseconds or frames. */
const placesOf = ({ value, seconds }: Extent): number => Math.round(seconds ? value * 1e6 : value);

/** The default of `far` in windows. */
const FAR = 10;

export interface Found {
  readonly sources: Sources;
  /** With all that was chosen. */
  readonly positives: PositivesConfig;
  /** What was chosen, a line each. */
  readonly chosen: readonly string[];
}

/**
 * The items of a folder.
 * @throws UserError if there are none, or a file that names them does not fit the folder.
 */
export async function findItems(
  data: string,
  asked: Asked,
  { range }: Pick<SourceOptions, "range">,
  looking?: Looking,
): Promise<Found> {
  const search = asked.kind === "frames" ? imagesAndVideosIn : imagesIn;
  const { root, files, notes } = await search(data); // a list has its own root
  const found = await FINDERS[asked.kind](root, files, asked as never, looking);
  const { groups, window = EVER, far = EVER, positives, side } = found;
  const fingerprint = fingerprintOf(groups, window, far);
  const items = { groups, window, far, fingerprint, ...(side !== undefined && { side }) };
  const sources: Sources = {
    root,
    files,
    classes: [],
    labels: new Int32Array(0),
    notes: [...(asked.kind === "frames" ? notes : []), ...(found.notes ?? [])], // else what is missing is told
    items,
    ...(range && { range }),
  };
  const { count } = openItems(items, 0);
  const more = found.chosen ? `; ${found.chosen}` : "";
  const chosen = [`positives: ${asked.kind}, ${count} items of ${groups.length} ${found.each}${more}`];
  return { sources, positives, chosen };
}

interface Finding {
  readonly groups: readonly Group[];
  /** @default any two */
  readonly window?: number;
  /** @default nothing of a group is unrelated */
  readonly far?: number;
  readonly side?: number | undefined;
  readonly notes?: readonly string[];
  readonly positives: PositivesConfig;
  /** What a group is, in the plural. */
  readonly each: string;
  readonly chosen?: string;
}

type Finder<K> = (
  root: string,
  files: readonly string[],
  asked: Extract<Asked, { kind: K }>,
  looking?: Looking,
) => Promise<Finding>;

const FINDERS: { readonly [K in PositivesConfig["kind"]]: Finder<K> } = {
  async frames(root, files, asked, looking) {
    const clips = await clipsIn(root, files, looking);
    const timed = clips.groups.every((group) => group.timed);
    const window = extentOf(asked.window ?? (timed ? "1s" : "8"));
    const far = asked.far === undefined ? { ...window, value: FAR * window.value } : extentOf(asked.far);
    if (far.seconds !== window.seconds)
      throw expected("--far", `${window.seconds ? "seconds" : "frames"}, as --window has`, textOf(far));
    if (far.value < window.value)
      throw expected("--far", `--window (${textOf(window)}) or more`, textOf(far));
    const untimed = clips.groups.find((group) => !group.timed);
    if (window.seconds && untimed)
      throw expected(
        "--window",
        `frames, as folders of frames have no times`,
        textOf(window),
        "give a number without s",
      );
    const groups = clips.groups.map(({ timed: _, ...group }): Group => {
      const { pictures } = group;
      return window.seconds && "times" in pictures ? { ...group, at: pictures.times } : group;
    });
    return {
      groups,
      window: placesOf(window),
      far: placesOf(far),
      side: clips.side,
      notes: clips.notes,
      positives: { kind: "frames", window: textOf(window), far: textOf(far) },
      each: "clips",
      chosen: `window ${textOf(window)}, far ${textOf(far)}`,
    };
  },
  async tracks(root, files, { file = "", margin = 0, window }) {
    const tracked = tracksIn(await textIn(file), file, root, files);
    const used = [...new Set(tracked.map((box) => box.file))];
    const names = used.map((i) => files[i]!);
    const sizes = await sizesOf(root, names);
    const known = new Map(used.flatMap((i, k) => (sizes[k] ? [[i, sizes[k]] as const] : [])));
    const { groups, notes, side } = groupsOfTracks(tracked, margin, known, file);
    const extent = window ? extentOf(window) : undefined;
    if (extent?.seconds)
      throw expected(
        "--window",
        "frames, as tracks have no times",
        textOf(extent),
        "give a number without s",
      );
    return {
      groups,
      ...(extent && { window: placesOf(extent) }),
      side,
      notes: notes.map((note) => `${file}: ${note}`),
      positives: { kind: "tracks", file, margin, window: extent ? textOf(extent) : null },
      each: "tracks",
    };
  },
  async pairs(root, files, { file = "" }) {
    const groups = pairsIn(await textIn(file), file, root, files);
    const lines = groups.reduce((sum, { shots }) => sum + shots.length, 0);
    const positives = { kind: "pairs", file } as const;
    return { groups, positives, each: "groups", chosen: `${lines} lines` };
  },
};

const MAX_LIST = 2 ** 28;

const textIn = async (file: string): Promise<string> =>
  new TextDecoder().decode(await readWhole(file, MAX_LIST, "a list of positives"));

/** @throws UserError if a method's step makes nothing of two images of an item. */
export function checkMethod(
  { method, views, state, audio }: Pick<Manifest, "method" | "views" | "state" | "audio">,
  kind: string,
): void {
  const banked = state.some(({ rows }) => rows);
  const turns = new Set(
    imagesInTurn(
      views.map(({ recipe }) => recipe),
      2,
    ),
  );
  const where = `--positives ${kind}`;
  if (audio)
    throw expected(
      where,
      "a method that takes images alone, such as simclr",
      method.name,
      "its positives are what is heard",
    );
  if (turns.size === 1 && !banked)
    throw expected(
      where,
      "a method that compares views, such as simclr",
      method.name,
      "its views are all of one image",
    );
  if (banked && kind === "frames")
    throw expected(
      where,
      "a method without a memory bank, such as moco",
      method.name,
      "its rows would outlive the window",
    );
}

/** Of items, by all that decides about them, but the names of the files. */
function fingerprintOf(groups: readonly Group[], window: number, far: number): string {
  const hash = createHash("sha256").update(JSON.stringify([window, far]));
  for (const { pictures, at, shots } of groups) {
    const [own, times] =
      "times" in pictures ? [[pictures.file, pictures.count], pictures.times] : [pictures, []];
    hash.update(JSON.stringify([own, Array.from(times), Array.from(at), shots]));
  }
  return hash.digest("hex");
}
