import { readdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { imagesIn, type List } from "../../src/data/folder.ts";
import { findImages, findLabelledImages } from "../../src/data/sources.ts";
import { failure, systemError, temporaryFolder } from "./folder.ts";

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
    const usual = ["a.jpg", "b.JPEG", "c.png", "d.webp", "e.avif", "f.tif", "g.TIFF", "h.gif"];
    const formats = [...usual, "i.jfif", "j.JPE", "k.jif", "l.apng"];
    const root = await fill("all", [...formats, "Z/y/x.jpg", "a/é.jpg", "a.b/1.jpg"]);
    await fill("all", [".hidden.jpg", ".cache/1.jpg", "notes.txt", "jpg", "z/readme.md"]);
    const found = await findImages(root);
    expect(found.files).to.deep.equal([...formats, "Z/y/x.jpg", "a/é.jpg", "a.b/1.jpg"].sort());
    expect(found).to.deep.include({ root, classes: [], labels: new Int32Array(0), notes: [] });
  });

  it("says how many images of other formats it left out", async () => {
    const root = await fill("others", [
      "a.jpg",
      "1.bmp",
      "x/2.BMP",
      "x/y/3.bmp",
      "4.heic",
      "5.tga",
      "6.svg",
      "7.mp4",
    ]);
    await fill("others", ["notes.txt", "labels.json", "bmp", ".8.bmp", "model.onnx"]);
    for (const { notes, files } of [await findImages(root), await findImages(root, { limit: 1 })]) {
      expect(files).to.deep.equal(["a.jpg"]);
      expect(notes).to.deep.equal([
        `${root}: left out 3 .bmp, 1 .heic, 1 .mp4, 1 .svg, 1 .tga, of formats that are not read: convert them to PNG or JPEG`,
      ]);
    }
  });

  describe("entries that cannot be read", () => {
    it("cost a line each, with the reason, and no run", async () => {
      const root = await fill("entries", ["good/1.jpg", "pipe.png/x.txt"]);
      await symlink(join(root, "gone.jpg"), join(root, "dangling.jpg"));
      await symlink(join(root, "loop"), join(root, "loop"));
      await symlink("/dev/null", join(root, "device.png"));
      const { files, notes } = await findImages(root);
      expect(files).to.deep.equal(["good/1.jpg"]);
      expect([...notes].sort()).to.deep.equal([
        `${root}/dangling.jpg: left out: no such file or directory (ENOENT)`,
        `${root}/device.png: left out: not a file`,
        `${root}/loop: left out: too many symbolic links encountered (ELOOP)`,
      ]);
    });

    it("are folders too", async () => {
      const root = await fill("locked", ["a/1.jpg", "b/2.jpg", "c/3.jpg"]);
      const list: List = (path) => {
        if (path.endsWith("/b")) throw systemError("EACCES");
        if (path.endsWith("/c")) throw systemError("EIO");
        return readdir(path, { withFileTypes: true });
      };
      expect(await imagesIn(root, async (path) => list(path))).to.deep.equal({
        root,
        files: ["a/1.jpg"],
        notes: [
          `${root}/b: the folder is left out: permission denied (EACCES)`,
          `${root}/c: the folder is left out: i/o error (EIO)`,
        ],
      });
      const locked = imagesIn(root, async () => {
        throw systemError("EACCES");
      });
      expect(await failure(locked)).to.equal(
        `${root}: expected a folder that can be read, found permission denied (EACCES)`,
      );
    });

    it("are counted from the eleventh on", async () => {
      const root = await fill("annexed", ["1.jpg"]);
      for (let i = 0; i < 25; i++) await symlink(join(root, "absent"), join(root, `${i}.png`));
      const { notes } = await findImages(root);
      expect(notes).to.have.length(11);
      expect(notes[10]).to.equal(`${root}: 15 more entries are left out, which cannot be read`);
    });
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
    expect(found.notes).to.deep.equal([`${root}: left out images outside of the class folders: 1`]);
  });

  it("takes names that differ in their Unicode form for one class", async () => {
    const [composed, decomposed] = ["caf\u00e9", "cafe\u0301"];
    const root = await fill("forms", [`${composed}/1.jpg`, `${decomposed}/2.jpg`, "tea/1.jpg"]);
    const { classes, files, labels } = await findLabelledImages(root);
    expect(classes).to.deep.equal([composed, "tea"]);
    expect(files).to.deep.equal([`${decomposed}/2.jpg`, `${composed}/1.jpg`, "tea/1.jpg"]);
    expect([...labels]).to.deep.equal([0, 0, 1]);
    expect(
      (await findLabelledImages(root, { limit: 2 })).files.map((file) => file.slice(0, 3)).sort(),
    ).to.deep.equal(["caf", "tea"]);
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
        `${path}: expected a folder of images, found a file; give the folder it lies in, or a list that ends in .txt`,
      );
    });

    it("no image", async () => {
      const root = await fill("texts", ["a/notes.txt"]);
      expect(await failure(findImages(root))).to.equal(
        `${root}: expected images (jpg, jpeg, jpe, jif, jfif, png, apng, webp, avif, tif, tiff, gif), found none in it or in its folders`,
      );
      const bitmaps = await fill("bitmaps", ["a/1.bmp", "b/2.bmp"]);
      expect(await failure(findImages(bitmaps))).to.match(
        /found none in it or in its folders; .*bitmaps: left out 2 \.bmp, .* convert them to PNG or JPEG$/,
      );
    });

    it("sets in place of classes", async () => {
      const root = await fill("lab", [
        "train/cat/1.jpg",
        "train/dog/1.jpg",
        "Test/cat/2.jpg",
        "Test/dog/2.jpg",
      ]);
      expect(await failure(findLabelledImages(root))).to.equal(
        `${root}: expected one folder per class, found sets of images (Test, train); did you mean ${root}/Test or ${root}/train?`,
      );
      expect((await findLabelledImages(`${root}/train`)).classes).to.deep.equal(["cat", "dog"]);
      const vehicles = await fill("vehicles", ["train/1.jpg", "bus/1.jpg", "test/1.jpg"]);
      expect((await findLabelledImages(vehicles)).classes).to.deep.equal(["bus", "test", "train"]);
    });

    it("a range that is none", async () => {
      const root = await fill("ranged", ["1.jpg", "a/1.jpg", "b/1.jpg"]);
      for (const range of [
        [1, 1],
        [2, 1],
        [Number.NaN, 1],
        [0, Infinity],
      ] as const) {
        for (const find of [findImages, findLabelledImages]) {
          expect(await failure(find(root, { range }))).to.equal(
            `range: expected the values of black and white, the lower one first, found ${range.join(",")}`,
          );
        }
      }
      expect(await findImages(root, { range: [-1, 1] })).to.deep.include({ range: [-1, 1] });
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
