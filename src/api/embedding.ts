/** Labelled features as `embed` wrote them. */
import * as z from "zod";
import { classesOf, labelsOf } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { readWhole } from "../files/atomic.ts";
import { readNpy } from "../files/npy.ts";
import { parseJson } from "../files/safetensors.ts";
import { takeRows } from "../probe/features.ts";
import { openProgress } from "../train/progress.ts";
import { type Embedded, indexOf } from "./encoder.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

const MAX_INDEX = 2 ** 30;
const indexSchema = z.object({ files: z.array(z.string()) });

/**
 * Features of a .npy file; an image's class is the first folder of its path in the list beside it. Images that lie in
 * no folder are left out with a warning.
 * @throws UserError if a file is missing or damaged, or there are fewer than two classes.
 */
export async function readEmbedding(
  file: string,
  { output = QUIET }: Pick<Surroundings, "output"> = {},
): Promise<Embedded> {
  if (!file.endsWith(".npy")) throw expected("features", "a file that ends in .npy", file);
  const { data, n, d } = await readNpy(file);
  const index = indexOf(file);
  const bytes = await readWhole(index, MAX_INDEX, "the list of paths that embed writes beside features");
  const parsed = indexSchema.safeParse(parseJson(bytes, index));
  const found = parsed.success ? parsed.data.files : [];
  if (found.length !== n) throw expected(index, `"files", a path for each of ${n} rows`, `${found.length}`);
  const { rows, classes, notes } = classesOf(index, found);
  const progress = openProgress(output);
  for (const note of notes) progress.note(`warning: ${note}`);
  const files = rows.map((row) => found[row]!);
  const all = { data, n, d, labels: labelsOf(found, classes), classes };
  return { features: rows.length === n ? all : takeRows(all, rows), files };
}
