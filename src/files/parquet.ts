/** Parquet files of features: a row for each image, its path and a list of float32. */
import { rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { syncFolder, writeFailed } from "./atomic.ts";

export interface FeatureRows {
  readonly files: readonly string[];
  /** float32 [files.length, d]. */
  readonly data: Float32Array;
}

const SCHEMA = [
  { name: "root", num_children: 2 },
  { name: "file", type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "REQUIRED" },
  { name: "features", converted_type: "LIST", repetition_type: "REQUIRED", num_children: 1 },
  { name: "list", repetition_type: "REPEATED", num_children: 1 },
  { name: "element", type: "FLOAT", repetition_type: "REQUIRED" },
] as const;

/**
 * Writes columns "file" and "features", a row group for each of the groups, all or nothing. Floats are neither compressed
 * nor counted: they hardly repeat. `about` goes into the file's metadata.
 * @throws UserError if it cannot be written.
 */
export async function writeParquet(
  path: string,
  groups: AsyncIterable<FeatureRows>,
  d: number,
  about: Readonly<Record<string, string>>,
): Promise<void> {
  const { fileWriter, ParquetWriter } = await import("hyparquet-writer"); // when needed: commands start sooner
  const temporary = `${path}.tmp`;
  try {
    const writer = new ParquetWriter({
      writer: fileWriter(temporary),
      schema: SCHEMA.map((element) => ({ ...element })),
      codec: "UNCOMPRESSED",
      statistics: false,
      kvMetadata: Object.entries(about).map(([key, value]) => ({ key, value })),
      createdBy: "ort-pretrain",
    });
    for await (const { files, data } of groups) {
      const features = files.map((_, i) => Array.from(data.subarray(i * d, (i + 1) * d)));
      const columnData = [
        { name: "file", data: [...files], encoding: "PLAIN" as const },
        { name: "features", data: features, encoding: "PLAIN" as const },
      ];
      await writer.write({ columnData, rowGroupSize: files.length });
    }
    await writer.finish();
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw writeFailed(dirname(path), error);
  }
}
