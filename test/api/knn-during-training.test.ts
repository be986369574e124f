import { join } from "node:path";
import { expect } from "chai";
import { evenly, imagesForKnn, openKnn } from "../../src/api/knn-during-training.ts";
import { compile } from "../../src/artifact/compile.ts";
import { rankMe } from "../../src/probe/rank.ts";
import type { Trainer } from "../../src/runtime/trainer.ts";
import type { Manifest } from "../../src/spec.ts";
import { temporaryFolder } from "../data/folder.ts";
import { labelled } from "../support/pictures.ts";

const manifest = compile({ method: "simclr", encoder: "resnet20", imageSize: 16 }).manifest as Manifest;
const d = manifest.encoder.features;

describe("api/knn-during-training", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);

  /** Features are an image's mean colour: its class, by how `labelled` makes them. */
  async function opened(onEncode: () => void = () => {}, signal?: AbortSignal) {
    const [warnings, shown]: [string[], string[]] = [[], []];
    let encoded = 0;
    const given: Float32Array[] = [];
    const trainer = {
      encode: async (images: Uint8Array, [n]: readonly number[]) => {
        encoded += n!;
        onEncode();
        const pixels = images.length / n!;
        const features = Float32Array.from({ length: n! * d }, (_, i) => {
          const [row, column] = [Math.floor(i / d), i % d];
          if (column > 2) return 0;
          const own = images.subarray(row * pixels, (row + 1) * pixels);
          return own.reduce((sum, value, p) => (p % 3 === column ? sum + value : sum), 0) / pixels;
        });
        given.push(features);
        return features;
      },
    } as unknown as Trainer;
    const knn = openKnn(await imagesForKnn(at("labelled"), {}), manifest, trainer, {
      threads: 1,
      cacheBytes: 0,
      warn: (line) => void warnings.push(line),
      progress: { show: (line) => void shown.push(line), note: () => {}, end: () => {} },
      signal,
    });
    return { knn, warnings, shown, given, encoded: () => encoded };
  }

  before(async () => {
    await labelled(at("labelled"), ["a", "b"], 10);
    await folder.write("labelled/a/broken.png", "no picture");
  });

  it("asks a fifth of the images of the others, and says how far it is", async () => {
    const { knn, warnings, shown, given, encoded } = await opened();
    const first = await knn.run();
    // Of three dimensions there is no alpha.
    expect(first).to.deep.equal({ knn: 100, rankme: await rankMe({ data: given[0]!, n: 20, d }) });
    expect(first.rankme).to.be.within(1.1, 3);
    expect(encoded()).to.equal(20);
    expect(shown.at(-1)).to.match(/^kNN: 21\/21 images .* 0 s left$/);
    expect(await knn.run()).to.deep.equal(first); // nothing was kept, so all was decoded again
    expect(warnings).to.have.length(1);
    expect(warnings[0]).to.match(/broken\.png: .*; it is left out$/);
    await knn.close();
  });

  it("takes the rank of rows from all over", () => {
    expect(evenly(1000, 4)).to.deep.equal([0, 250, 500, 750]);
    expect(evenly(3, 4)).to.deep.equal([0, 1, 2]);
  });

  it("stops once it is told to", async () => {
    const stop = new AbortController();
    const { knn, encoded } = await opened(() => stop.abort(new Error("stopped")), stop.signal);
    expect(await knn.run().catch((error: Error) => error.message)).to.equal("stopped");
    expect(encoded()).to.equal(20);
    await knn.close();
  });
});
