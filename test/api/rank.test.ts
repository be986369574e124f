import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { openEncoder, writeEmbedding } from "../../src/api/encoder.ts";
import { type RankOptions, rank } from "../../src/api/rank.ts";
import { train } from "../../src/api/train.ts";
import { findImages } from "../../src/data/sources.ts";
import { npyHeader } from "../../src/files/npy.ts";
import { alphaReq, rankMe, uniformity } from "../../src/probe/rank.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, tinyArtifact } from "../support/pictures.ts";

describe("api/rank", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const data = () => ({ data: at("photos"), threads: 1 });

  /** The result, and what was said. */
  async function heard(options: RankOptions) {
    const stream = new PassThrough();
    const result = await rank(options, { output: { stream, quiet: true } });
    return { result, said: String(stream.read() ?? "") };
  }

  async function initialised(method: string, run: string, config = {}) {
    await tinyArtifact(at(`${method}-graph`), { method, config });
    const options = { data: at("photos"), out: at(run), graph: at(`${method}-graph`), batch: 4, steps: 0 };
    await train({ ...options, threads: 1 });
  }

  before(async () => {
    await labelled(at("photos"), ["blue", "green", "red"], 8);
    await folder.write("photos/blue/broken.png", "no image");
    await initialised("byol", "run", { hidden: 32, projection: 16 });
  });

  it("tells of a run all that there is to tell, of views drawn by the seed", async () => {
    const { result, said } = await heard({ ...data(), encoder: at("run"), views: 3 });
    const encoder = await openEncoder(at("run"), { threads: 1 });
    const silent = { output: { stream: new PassThrough(), quiet: true } };
    const embedded = await encoder.embed(await findImages(at("photos")), silent);
    await encoder.close();
    const { features } = embedded;
    expect(result).to.deep.include({
      ...{ kind: "rank", rankme: await rankMe(features), alpha: (await alphaReq(features)) ?? null },
      ...{ uniformity: await uniformity(features, 1), images: 24, features: 64, views: 3, viewed: 24 },
    });
    expect(result.alignment).to.be.within(1e-6, 4);
    expect(result.lidar).to.be.within(1, 23.01);
    expect(said).to.match(/^warning: .*broken\.png: .*\n$/);
    expect((await heard({ ...data(), encoder: at("run"), views: 3 })).result).to.deep.equal(result);
    const other = await heard({ ...data(), encoder: at("run"), views: 3, seed: 1 });
    expect(other.result.lidar).not.to.equal(result.lidar);
    await writeEmbedding(at("f.npy"), embedded, encoder.metadata);
  });

  it("says in a line why there are no views, of an encoder.onnx, of features, of a method of patches", async () => {
    const alone = await heard({ ...data(), encoder: at("run/encoder.onnx") });
    expect(alone.result).to.have.keys([...["kind", "rankme", "alpha", "uniformity", "images", "features"]]);
    expect(alone.said).to.match(
      /\nalignment and LiDAR need views: .*encoder\.onnx does not say how views are drawn; give the folder of its run\n$/,
    );
    const of = await heard({ features: at("f.npy"), threads: 1 });
    expect(of.result).to.deep.equal(alone.result);
    expect(of.said).to.match(/^alignment and LiDAR need views: features do not say how views are drawn.*\n$/);
    await initialised("jigsaw", "tiles", { permutations: 4, hidden: 8 });
    expect((await heard({ ...data(), encoder: at("tiles") })).said).to.match(
      /need views: jigsaw draws no views of whole images\n$/,
    );
  });

  it("refuses one view, one image, and features that are not finite", async () => {
    const refused = (options: RankOptions) => failure(rank(options));
    expect(await refused({ ...data(), encoder: at("run"), views: 1 })).to.match(
      /views: expected .* 2 or more/,
    );
    expect(await refused({ ...data(), encoder: at("run"), limit: 1 })).to.match(
      /two images or more, found one/,
    );
    expect(await refused({ ...data() })).to.match(/found no encoder/);
    expect(await refused({ ...data(), features: at("f.npy") })).to.match(/found both/);
    expect(await refused({ features: at("f.npy"), limit: 3 })).to.match(/limit: expected it with an encoder/);
    const bad = Float32Array.of(1, 2, Number.NaN, 4);
    await writeFile(at("bad.npy"), Buffer.concat([npyHeader(2, 2), Buffer.from(bad.buffer)]));
    expect(await refused({ features: at("bad.npy") })).to.match(
      /rank: expected finite features, found NaN .* image 1/,
    );
  });
});
