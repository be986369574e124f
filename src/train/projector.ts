/** What TensorBoard's projector shows: feature vectors with names and pictures, in the folder of an event file. */
import { join } from "node:path";
import { makeFolder, writeFileAtomic } from "../files/atomic.ts";
import type { Picture } from "./events.ts";

export interface Projection {
  /** Printable ASCII without quotes or backslashes. */
  readonly name: string;
  /** float32 [n, d]. */
  readonly rows: { readonly data: Float32Array; readonly n: number; readonly d: number };
  /** What is said of each row, by the names of the columns. */
  readonly columns: Readonly<Record<string, readonly string[]>>;
  /** A picture of each row, in reading order, in square cells. */
  readonly sprite: Picture;
  /** Side of a cell, pixels. */
  readonly cell: number;
}

const FOLDER = "projector";
const FILES = {
  rows: `${FOLDER}/features.tsv`,
  columns: `${FOLDER}/images.tsv`,
  sprite: `${FOLDER}/images.png`,
};

/** Writes it in place of an earlier one. @throws UserError if it cannot be written */
export async function writeProjection(dir: string, projection: Projection): Promise<void> {
  const { name, rows, columns, sprite, cell } = projection;
  await makeFolder(join(dir, FOLDER));
  await writeFileAtomic(join(dir, FILES.rows), rowsText(rows));
  await writeFileAtomic(join(dir, FILES.columns), columnsText(columns));
  await writeFileAtomic(join(dir, FILES.sprite), sprite.png);
  // Last, since it names the others. TensorBoard takes no path that leads out of its folder.
  const config = `embeddings {
  tensor_name: "${name}"
  tensor_path: "${FILES.rows}"
  metadata_path: "${FILES.columns}"
  sprite {
    image_path: "${FILES.sprite}"
    single_image_dim: ${cell}
    single_image_dim: ${cell}
  }
}
`;
  await writeFileAtomic(join(dir, "projector_config.pbtxt"), config);
}

/** As text: TensorBoard takes a file of bytes for text where these happen to be UTF-8. */
function rowsText({ data, n, d }: Projection["rows"]): string {
  const lines = Array.from({ length: n }, (_, i) =>
    Array.from(data.subarray(i * d, (i + 1) * d), (x) => String(Number(x.toPrecision(9)))).join("\t"),
  ); // nine digits tell each float32
  return `${lines.join("\n")}\n`;
}

/** A line of the names before the others, but for a single column, which TensorBoard expects without. */
function columnsText(columns: Projection["columns"]): string {
  const names = Object.keys(columns);
  const [first = []] = Object.values(columns);
  const lines = first.map((_, i) => names.map((name) => escaped(columns[name]![i]!)).join("\t"));
  return `${[...(names.length > 1 ? [names.join("\t")] : []), ...lines].join("\n")}\n`;
}

/** Tabs, the ends of lines and what else no name shows, as in "\u{9}". */
const escaped = (text: string): string =>
  text.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`);
