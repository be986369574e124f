/** The page of `data check`: figures, and thumbnails of what was found. */
import { join, resolve } from "node:path";
import type { Source } from "../data/canvas.ts";
import { decodeSource } from "../data/decode.ts";
import { mapInOrder } from "../data/parallel.ts";
import type { Sources } from "../data/sources.ts";
import { UserError } from "../errors.ts";
import { writeFileAtomic } from "../files/atomic.ts";
import { type Figure, figuresOf, groupsSection, tableSection } from "../report/check.ts";
import type { Html } from "../report/html.ts";
import { pageOf } from "../report/page.ts";
import { fitted, spriteOf } from "../report/sprite.ts";
import type { CheckResult } from "./check.ts";
import type { CopyGroup } from "./check-copies.ts";
import { versions } from "./versions.ts";

/** Side of a thumbnail, pixels; bytes of a section's. */
const THUMBNAIL = 72;
const MOST_BYTES = 400_000;
/** Of a section: groups of copies, images of a group, images that are shown by themselves, lines of a table. */
const MOST = { groups: 30, each: 8, images: 80, lines: 200 };

type Shown = Parameters<typeof groupsSection>[0]["groups"][number];

export async function writeCheckPage(out: string, sources: Sources, result: CheckResult): Promise<void> {
  const { broken, folders, duplicates, near, flat, grey, small } = result;
  const across = [...duplicates, ...near].filter(({ acrossFolders }) => acrossFolders);
  const sections = [
    figuresOf(figures(result)),
    broken.length > 0
      ? tableSection({
          ...{ id: "broken", title: "Broken files" },
          about: `${counted(broken.length, MOST.lines)} They cannot be decoded, and training leaves them out.`,
          heads: ["file", "why"],
          rows: broken.slice(0, MOST.lines).map(({ file, why }) => [file, why]),
        })
      : undefined,
    folders.length > 0
      ? tableSection({
          ...{ id: "folders", title: "Folders" },
          about: `${folders.length} top-level folders; the largest has ${imbalance(result)} times as many images as the smallest.`,
          heads: ["folder", "images"],
          rows: folders.slice(0, MOST.lines).map(({ name, images }) => [name, images]),
        })
      : undefined,
    await copies(
      sources,
      "across",
      "Copies across folders",
      across,
      "Where folders are classes their labels contradict each other; where they are training and test sets, a test sees what was trained on.",
    ),
    await copies(sources, "near", "Near duplicates", near, "The first of each group is the one to keep."),
    await copies(
      sources,
      "duplicates",
      "Exact duplicates",
      duplicates,
      "The same bytes or the same pixels; the first of each group is the one to keep.",
    ),
    await images(
      sources,
      "flat",
      "Flat images",
      flat,
      "Large even areas of few colours: screenshots, diagrams, cartoons, text.",
    ),
    await images(sources, "grey", "Grey images", grey, "No colour, or hardly any."),
    await images(
      sources,
      "small",
      "Small images",
      small,
      `A shorter side of less than ${result.smallBelow} pixels.`,
    ),
  ];
  const text = await pageOf({
    title: `${result.images.toLocaleString("en")} images checked`,
    about: resolve(result.data),
    sections,
    charts: [],
    foot: `ort-pretrain ${versions()["ort-pretrain"]}`,
  });
  await writeFileAtomic(out, text);
}

function figures({
  images,
  broken,
  duplicates,
  near,
  flat,
  grey,
  small,
  kept,
  shorterSide,
  aspect,
}: CheckResult): readonly Figure[] {
  const share = (count: number) => `${((100 * count) / images).toFixed(1)} %`;
  const copiesIn = (groups: readonly CopyGroup[]) =>
    groups.reduce((sum, { files }) => sum + files.length - 1, 0);
  const counts: readonly (readonly [string, number])[] = [
    ["kept", kept],
    ["broken", broken.length],
    ["exact duplicates", copiesIn(duplicates)],
    ["near duplicates", copiesIn(near)],
    ["flat", flat.length],
    ["grey", grey.length],
    ["small", small.length],
  ];
  return [
    ...counts.map(([name, count]) => [name, count.toLocaleString("en"), share(count)] as const),
    ...(shorterSide
      ? [
          [
            "shorter side",
            `${shorterSide.median} px`,
            `${shorterSide.least} to ${shorterSide.greatest}`,
          ] as const,
        ]
      : []),
    ...(aspect
      ? [
          [
            "width / height",
            aspect.median.toFixed(2),
            `${aspect.least.toFixed(2)} to ${aspect.greatest.toFixed(2)}`,
          ] as const,
        ]
      : []),
  ];
}

/** The largest folder's images over the smallest one's. */
export const imbalance = ({ folders }: CheckResult): string =>
  ((folders[0]?.images ?? 1) / (folders.at(-1)?.images ?? 1)).toFixed(1);

const counted = (all: number, most: number): string =>
  all > most
    ? `${most.toLocaleString("en")} of ${all.toLocaleString("en")}.`
    : `${all.toLocaleString("en")}.`;

async function copies(
  sources: Sources,
  id: string,
  title: string,
  groups: readonly CopyGroup[],
  about: string,
) {
  const shown = groups.slice(0, MOST.groups).map(({ files, by, likeness }) => ({
    label: `${files[0]} (${files.length - 1} by ${by}${by === "bytes" || by === "pixels" ? "" : `, ${likeness.toFixed(2)}`})`,
    files: files.slice(0, MOST.each),
  }));
  return section(sources, id, title, shown, `${counted(groups.length, MOST.groups)} ${about}`);
}

async function images(sources: Sources, id: string, title: string, files: readonly string[], about: string) {
  const shown = [{ label: "", files: files.slice(0, MOST.images) }];
  return section(
    sources,
    id,
    title,
    files.length > 0 ? shown : [],
    `${counted(files.length, MOST.images)} ${about}`,
  );
}

async function section(
  { root, range }: Sources,
  id: string,
  title: string,
  groups: readonly Shown[],
  about: string,
): Promise<Html | undefined> {
  if (groups.length === 0) return undefined;
  const files = groups.flatMap((group) => group.files);
  const tiles = await mapInOrder(files, (file) => thumbnail(join(root, file), range));
  const sprite = await spriteOf(tiles, { cell: THUMBNAIL, mostBytes: MOST_BYTES });
  return groupsSection({ id, title, about, groups, sprite });
}

/** Undefined of an image that has become unreadable meanwhile. */
async function thumbnail(path: string, range: Sources["range"]): Promise<Source | undefined> {
  try {
    return await fitted(await decodeSource(path, THUMBNAIL, { range }), THUMBNAIL);
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}
