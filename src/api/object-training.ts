/** Training from objects: which annotated images it takes, and which are held out. */
import { findObjects, type ObjectsOptions } from "../data/objects/objects.ts";
import { type Sources, takeFiles } from "../data/sources.ts";
import { rowsOfShare } from "../probe/features.ts";
import type { Supervision } from "../train/run-folder.ts";
import { rowsHeldOut, type Training } from "./supervised.ts";

/**
 * That share `labels` of the images, drawn by the seed, but for those that are held out of them: one image or more of each
 * share, smaller ones within larger ones.
 *
 * @throws UserError like `findObjects`, or if the share is none
 */
export async function findObjectTraining(
  data: string,
  options: ObjectsOptions,
  { labels, heldOut: share }: Pick<Supervision, "labels" | "heldOut">,
): Promise<Training> {
  const { seed = 0 } = options;
  const all = await findObjects(data, options);
  const used = takeFiles(all, rowsOfShare(inOneClass(all), labels, seed));
  const out = new Set(rowsHeldOut(inOneClass(used), share, seed));
  const rows = Array.from(used.files.keys());
  return {
    sources: takeFiles(
      used,
      rows.filter((row) => !out.has(row)),
    ),
    heldOut: out.size === 0 ? undefined : takeFiles(used, [...out]),
  };
}

/** An image shows objects of several classes: none are balanced. */
const inOneClass = ({ files }: Sources): Pick<Sources, "labels" | "classes"> => ({
  labels: new Int32Array(files.length),
  classes: [""],
});
