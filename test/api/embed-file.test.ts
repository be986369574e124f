import { appendFile, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { embedToFile } from "../../src/api/embed-file.ts";
import { type OpenedEncoder, openEncoder } from "../../src/api/encoder.ts";
import { train } from "../../src/api/train.ts";
import { findImages } from "../../src/data/sources.ts";
import { lockFolder } from "../../src/files/lock.ts";
import { readNpy } from "../../src/files/npy.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";

describe("api/embed-file", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  let encoder: OpenedEncoder;
  let whole: Buffer;

  before(async () => {
    await tinyArtifact(at("graph"));
    await pictures(at("photos"), 200);
    for (const place of ["07", "70", "150"]) await folder.write(`photos/${place}.png`, "no image");
    const options = {
      data: at("photos"),
      out: at("run"),
      graph: at("graph"),
      batch: 4,
      steps: 0,
      threads: 1,
    };
    await train(options);
    encoder = await openEncoder(at("run"), { threads: 1 });
  });
  after(() => encoder.close());

  /** What was said, and the image that it began with. */
  async function embed(out: string, given = encoder, recordEvery = 0) {
    const stream = new PassThrough();
    let began = -1;
    const watched: OpenedEncoder = {
      ...given,
      embedBlocks(sources, from, surroundings) {
        began = from;
        return given.embedBlocks(sources, from, surroundings);
      },
    };
    const sources = await findImages(at("photos"));
    const surroundings = { output: { stream, quiet: false } };
    const result = await embedToFile(watched, sources, at(out), { recordEvery }, surroundings);
    return { result, began, said: String(stream.read()) };
  }
  /** Is cut off once it has given so many blocks, as by a kill: nothing is put in order. */
  const dying = (blocks: number): OpenedEncoder => ({
    ...encoder,
    async *embedBlocks(...args) {
      let given = 0;
      for await (const block of encoder.embedBlocks(...args)) {
        if (given++ === blocks) throw new Error("killed");
        yield block;
      }
    },
  });
  const rest = async (out: string) =>
    (await readdir(folder.path)).filter((name) => name.startsWith(out)).sort();

  it("writes what embed gives in memory, and nothing else", async () => {
    const { result } = await embed("a.npy");
    expect(result).to.deep.equal({ index: at("a.json"), images: 197, length: 64 });
    const { features, files } = await encoder.embed(await findImages(at("photos")), silent);
    const { data, n, d } = await readNpy(at("a.npy"));
    expect([n, d]).to.deep.equal([197, 64]);
    expect(Buffer.from(data.slice().buffer).equals(Buffer.from(features.data.slice().buffer))).to.equal(true);
    expect(JSON.parse(await readFile(at("a.json"), "utf8")).files).to.deep.equal(files);
    expect(await rest("a.")).to.deep.equal(["a.json", "a.npy"]);
    whole = await readFile(at("a.npy"));
  });

  it("goes on where it was cut off, and ends with the same bytes", async () => {
    expect(await failure(embed("b.npy", dying(2)))).to.equal("killed");
    expect(await rest("b.")).to.deep.equal(["b.npy.part"]);
    await appendFile(at("b.npy.part/rows"), Buffer.alloc(10_000, 1)); // rows after the last record
    expect(await failure(embed("b.npy", dying(1)))).to.equal("killed");
    const { began, said, result } = await embed("b.npy");
    expect(began).to.equal(192);
    expect(said).to.match(/^going on after 192 of 200 images\n/);
    expect(result.images).to.equal(197);
    expect((await readFile(at("b.npy"))).equals(whole)).to.equal(true);
    expect((await readFile(at("b.json"))).equals(await readFile(at("a.json")))).to.equal(true);
    expect(await rest("b.")).to.deep.equal(["b.json", "b.npy"]);
  });

  it("starts anew after other work, where rows are missing, and where nothing was recorded", async () => {
    const cut: Record<string, () => Promise<unknown>> = {
      other: async () => {
        const record = JSON.parse(await readFile(at("c.npy.part/done.json"), "utf8"));
        await writeFile(at("c.npy.part/done.json"), JSON.stringify({ ...record, of: "another" }));
      },
      missing: () => truncate(at("c.npy.part/rows"), 1000),
      unrecorded: () => embed("c.npy", dying(1), Number.POSITIVE_INFINITY).catch(() => {}),
    };
    for (const [name, change] of Object.entries(cut)) {
      if (name !== "unrecorded") expect(await failure(embed("c.npy", dying(2)))).to.equal("killed");
      await change();
      const { began } = await embed("c.npy");
      expect(began, name).to.equal(0);
      expect((await readFile(at("c.npy"))).equals(whole)).to.equal(true);
    }
  });

  it("writes the same as Parquet, the paths in it, also where it was cut off", async () => {
    expect(await failure(embed("e.parquet", dying(2)))).to.equal("killed");
    const { began, result } = await embed("e.parquet");
    expect([began, result]).to.deep.equal([128, { images: 197, length: 64 }]);
    expect(await rest("e.")).to.deep.equal(["e.parquet"]);
    const file = await asyncBufferFromFile(at("e.parquet"));
    const rows = await parquetReadObjects({ file });
    const { data } = await readNpy(at("a.npy"));
    const { files } = JSON.parse(await readFile(at("a.json"), "utf8"));
    expect(rows.map((row) => row.file)).to.deep.equal(files);
    expect(rows.flatMap((row) => row.features)).to.deep.equal([...data]);
    const { key_value_metadata } = await parquetMetadataAsync(file);
    expect(key_value_metadata!.map(({ key }) => key)).to.deep.equal(["ort-pretrain.encoder"]);
  });

  it("leaves alone what another process writes", async () => {
    const lock = await lockFolder(at("g.npy.part"));
    expect(await failure(embed("g.npy"))).to.match(/g\.npy\.part: .*process/);
    lock.release();
    expect(await rest("g.")).to.deep.equal([]);
  });

  it("tells of a folder in which nothing can be decoded, and leaves nothing", async () => {
    await folder.write("bad/a.png", "no image");
    const sources = await findImages(at("bad"));
    expect(await failure(embedToFile(encoder, sources, at("d.npy"), {}, silent))).to.match(
      /bad: expected images that can be decoded, found none/,
    );
    expect(await rest("d.")).to.deep.equal([]);
  });
});

const silent = { output: { stream: new PassThrough(), quiet: true } };
