import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { findImages, findLabelledImages } from "../../src/data/sources.ts";
import { failure, temporaryFolder } from "./folder.ts";

describe("data/sources", () => {
  const folder = temporaryFolder();
  const fill = async (root: string, files: readonly string[]) => {
    for (const file of files) await folder.write(`${root}/${file}`, "");
    return join(folder.path, root);
  };
  const numbered = (name: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${name}/${String(i).padStart(3, "0")}.jpg`);
  const countsOf = (files: readonly string[]) => {
    const counts: Record<string, number> = {};
    for (const file of files) counts[file.split("/")[0]!] = (counts[file.split("/")[0]!] ?? 0) + 1;
    return counts;
  };

  it("finds images in all folders, sorted by code unit", async () => {
    const formats = ["a.jpg", "b.JPEG", "c.png", "d.webp", "e.avif", "f.tif", "g.TIFF", "h.gif"];
    const root = await fill("all", [...formats, "Z/y/x.jpg", "a/é.jpg", "a.b/1.jpg"]);
    await fill("all", [".hidden.jpg", ".cache/1.jpg", "notes.txt", "jpg", "z/readme.md"]);
    const found = await findImages(root);
    expect(found.files).to.deep.equal([...formats, "Z/y/x.jpg", "a/é.jpg", "a.b/1.jpg"].sort());
    expect(found).to.deep.include({ root, classes: [], labels: new Int32Array(0) });
  });

  it("follows links, but visits no folder twice", async () => {
    const root = await fill("links", ["real/1.jpg", "real/deep/2.jpg"]);
    const outside = await fill("outside", ["3.jpg"]);
    await symlink(join(root, "real"), join(root, "alias"));
    await symlink(root, join(root, "real/loop"));
    await symlink(outside, join(root, "outside"));
    await symlink(root, join(outside, "back"));
    await symlink(join(root, "real/1.jpg"), join(root, "link.jpg"));
    await symlink(join(root, "gone.jpg"), join(root, "dangling.jpg"));
    const { files } = await findImages(root);
    expect(files).to.deep.equal(["link.jpg", "outside/3.jpg", "real/1.jpg", "real/deep/2.jpg"]);
  });

  it("labels by folder and leaves out images that lie in none", async () => {
    const root = await fill("labelled", [
      "dog/1.jpg",
      "cat/x/2.jpg",
      "cat/1.jpg",
      "stray.jpg",
      "empty/x.txt",
    ]);
    const found = await findLabelledImages(root);
    expect(found.classes).to.deep.equal(["cat", "dog"]);
    expect(found.files).to.deep.equal(["cat/1.jpg", "cat/x/2.jpg", "dog/1.jpg"]);
    expect([...found.labels]).to.deep.equal([0, 0, 1]);
  });

  describe("limit", () => {
    it("balances over the classes, with or without labels", async () => {
      const root = await fill("unequal", [...numbered("a", 20), ...numbered("b", 2), ...numbered("c", 9)]);
      const found = await findLabelledImages(root, { limit: 13 });
      expect(countsOf(found.files)).to.deep.equal({ a: 6, b: 2, c: 5 });
      expect(found.files).to.deep.equal([...found.files].sort());
      expect([...found.labels]).to.deep.equal(found.files.map((file) => "abc".indexOf(file[0]!)));
      expect((await findImages(root, { limit: 13 })).files).to.deep.equal(found.files);
    });

    it("depends on the seed alone", async () => {
      const root = await fill("seeded", [...numbered("a", 50), ...numbered("b", 50)]);
      const draw = async (seed?: number) => (await findImages(root, { limit: 10, seed })).files;
      expect(await draw(3)).to.deep.equal(await draw(3));
      expect(await draw()).to.deep.equal(await draw(0));
      expect(await draw(3)).to.not.deep.equal(await draw(4));
    });

    it("keeps classes that it takes no image of", async () => {
      const root = await fill("many", ["a/1.jpg", "b/1.jpg", "c/1.jpg"]);
      const found = await findLabelledImages(root, { limit: 2 });
      expect(found.files).to.deep.equal(["a/1.jpg", "b/1.jpg"]);
      expect(found.classes).to.deep.equal(["a", "b", "c"]);
    });

    it("draws from all alike where an image lies in no folder", async () => {
      const root = await fill("flat", [...numbered("a", 40), ...numbered("b", 1), "c.jpg"]);
      const { files } = await findImages(root, { limit: 20 });
      expect(files).to.have.length(20);
      expect(countsOf(files).a).to.be.at.least(18);
    });

    it("larger than the folder takes everything", async () => {
      const root = await fill("small", ["1.jpg", "2.jpg"]);
      expect((await findImages(root, { limit: 9 })).files).to.have.length(2);
    });

    it("is a whole number from 1", async () => {
      const root = await fill("small", ["1.jpg"]);
      for (const limit of [0, -1, 1.5, Number.NaN]) {
        expect(await failure(findImages(root, { limit }))).to.equal(
          `limit: expected a whole number from 1, found ${limit}`,
        );
      }
    });
  });

  describe("errors", () => {
    it("no such folder", async () => {
      const root = join(folder.path, "absent");
      const message = `${root}: expected a folder of images, found nothing at this path`;
      expect(await failure(findImages(root))).to.equal(message);
      expect(await failure(findLabelledImages(root))).to.equal(message);
    });

    it("a file", async () => {
      const path = await folder.write("file.jpg", "");
      expect(await failure(findImages(path))).to.equal(
        `${path}: expected a folder of images, found a file; give the folder it lies in`,
      );
    });

    it("no image", async () => {
      const root = await fill("texts", ["a/notes.txt"]);
      expect(await failure(findImages(root))).to.equal(
        `${root}: expected images (jpg, jpeg, png, webp, avif, tif, tiff, gif), found none in it or in its folders`,
      );
    });

    it("fewer than two classes", async () => {
      const one = await fill("one-class", ["x/1.jpg", "x/2.jpg"]);
      expect(await failure(findLabelledImages(one))).to.equal(
        `${one}: expected one folder per class (two or more), found one class "x"`,
      );
      const none = await fill("no-class", ["1.jpg"]);
      expect(await failure(findLabelledImages(none))).to.equal(
        `${none}: expected one folder per class (two or more), found no class`,
      );
    });
  });
});
