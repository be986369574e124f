import { join } from "node:path";
import { expect } from "chai";
import { listText } from "../../src/data/list.ts";
import { findImages, findLabelledImages, fingerprint } from "../../src/data/sources.ts";
import { failure, temporaryFolder } from "./folder.ts";

describe("data/list", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);

  before(async () => {
    for (const file of ["cat/1.jpg", "cat/2.jpg", "dog/#3.jpg", "dog/x y/é.png"])
      await folder.write(`photos/${file}`, "");
  });

  it("takes exactly what it names, from its own folder or absolute", async () => {
    const lines = [
      "\uFEFF# chosen",
      "../photos/dog/x y/é.png",
      "",
      at("photos/cat/1.jpg"),
      "../photos/dog/#3.jpg",
    ];
    const list = await folder.write("lists/some.txt", lines.join("\r\n"));
    const found = await findImages(list);
    const files = ["cat/1.jpg", "dog/#3.jpg", "dog/x y/é.png"];
    expect(found).to.deep.include({ root: at("photos"), files, notes: [] });
    const labelled = await findLabelledImages(list);
    expect(labelled).to.deep.include({ files, classes: ["cat", "dog"], labels: Int32Array.of(0, 1, 1) });
    const all = await folder.write(
      "all.txt",
      [...files, "cat/2.jpg"].map((file) => `photos/${file}\n`).join(""),
    );
    expect(fingerprint(await findImages(all))).to.equal(fingerprint(await findImages(at("photos"))));
    expect((await findImages(all, { limit: 2 })).files).to.have.length(2);
  });

  it("takes an image once that is there twice, and says so", async () => {
    const list = await folder.write(
      "twice.txt",
      "photos/cat/1.jpg\nphotos/cat/2.jpg\nphotos/../photos/cat/1.jpg\n",
    );
    const { root, files, notes } = await findImages(list);
    expect({ root, files }).to.deep.equal({ root: at("photos/cat"), files: ["1.jpg", "2.jpg"] });
    expect(notes).to.deep.equal([`${list}: 1 paths are there more than once, and taken once`]);
  });

  it("is refused in one line if it names what is no file, or nothing", async () => {
    const list = await folder.write("gone.txt", "photos/cat/1.jpg\n\nphotos/cat/9.jpg\nphotos/dog\n");
    expect(await failure(findImages(list))).to.equal(
      `${list}: expected paths of images, absolute or from the list's folder, found no file at 2 of 3, ` +
        `the first ${at("photos/cat/9.jpg")} (line 3)`,
    );
    const empty = await folder.write("empty.txt", "# none\n\n");
    expect(await failure(findImages(empty))).to.equal(`${empty}: expected a path on each line, found none`);
  });

  it("is written with a line for each path", async () => {
    const { text, leftOut } = listText(["a b.jpg", "#1.jpg", "two\nlines.jpg", join("x", "y.png")]);
    expect(text).to.equal("a b.jpg\n./#1.jpg\nx/y.png\n");
    expect(leftOut).to.deep.equal(["two\nlines.jpg"]);
  });
});
