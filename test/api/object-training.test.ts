import { expect } from "chai";
import { findObjectTraining } from "../../src/api/object-training.ts";
import type { Sources } from "../../src/data/sources.ts";
import { temporaryFolder } from "../data/folder.ts";
import { shapes } from "../support/shapes.ts";

describe("api/object-training", () => {
  const folder = temporaryFolder();

  it("takes a share of the images, and holds out some of it with their objects", async () => {
    const { data } = await shapes(folder.path, { form: "voc", images: 20 });
    const take = (labels: number, heldOut: number, seed = 0) =>
      findObjectTraining(data, { seed }, { labels, heldOut });
    const all = await take(1, 0);
    expect(all.heldOut).to.equal(undefined);
    expect(all.sources.files).to.have.length(20);
    const half = await take(0.5, 0.2);
    expect([half.sources, half.heldOut!].map(({ files }) => files.length)).to.deep.equal([8, 2]);
    const both = [...half.sources.files, ...half.heldOut!.files];
    expect(new Set(both).size).to.equal(10);
    const objectOf = ({ files, objects }: Sources, file: string) => objects![files.indexOf(file)];
    for (const part of [half.sources, half.heldOut!])
      for (const file of part.files) expect(objectOf(part, file)).to.deep.equal(objectOf(all.sources, file));
    expect((await take(0.5, 0.2)).sources).to.deep.equal(half.sources);
    expect((await take(0.5, 0.2, 1)).sources.files).not.to.deep.equal(half.sources.files);
    const few = await take(0.01, 0.5);
    expect([few.sources.files.length, few.heldOut]).to.deep.equal([1, undefined]);
    expect(both).to.include(few.sources.files[0]);
  });
});
