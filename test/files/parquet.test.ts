import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { type FeatureRows, writeParquet } from "../../src/files/parquet.ts";
import { failure, temporaryFolder } from "../data/folder.ts";

describe("files/parquet", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const rows = { "a/é.png": [1, -0.5, 0.1], "b,c.png": [0, 3e38, -1e-38], "d.png": [7, 8, 9] };

  async function* groups(of: readonly number[]): AsyncGenerator<FeatureRows> {
    let from = 0;
    for (const size of of) {
      const own = Object.entries(rows).slice(from, from + size);
      yield {
        files: own.map(([file]) => file),
        data: Float32Array.from(own.flatMap(([, values]) => values)),
      };
      from += size;
    }
  }

  it("writes each group as a row group, and the metadata", async () => {
    await writeParquet(at("f.parquet"), groups([2, 1]), 3, { key: "value" });
    const file = await asyncBufferFromFile(at("f.parquet"));
    const { row_groups, key_value_metadata } = await parquetMetadataAsync(file);
    expect(row_groups.map(({ num_rows }) => Number(num_rows))).to.deep.equal([2, 1]);
    expect(key_value_metadata).to.deep.equal([{ key: "key", value: "value" }]);
    expect(await parquetReadObjects({ file })).to.deep.equal(
      Object.entries(rows).map(([name, values]) => ({ file: name, features: values.map(Math.fround) })),
    );
  });

  it("leaves nothing where it cannot be written", async () => {
    await mkdir(at("taken.parquet"));
    expect(await failure(writeParquet(at("taken.parquet"), groups([3]), 3, {}))).to.match(
      /expected nothing or what an earlier run wrote, found something else/,
    );
    expect(await readdir(folder.path)).to.deep.equal(["f.parquet", "taken.parquet"]);
  });
});
