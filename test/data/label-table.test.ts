import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { drawCovering, rowsHeldOutOfSets, rowsOfShareCovering } from "../../src/data/label-sets.ts";
import { findLabelTable, type LabelTableOptions } from "../../src/data/label-table.ts";
import { fingerprint } from "../../src/data/sources.ts";
import { UserError } from "../../src/errors.ts";
import { failure, temporaryFolder } from "./folder.ts";

const FILES = ["a.png", "b,1.png", "c/d.png", "e.png"];

describe("data/label-table", () => {
  const folder = temporaryFolder();
  const read = async (text: string, options?: LabelTableOptions) => {
    await folder.write("labels.csv", text);
    return findLabelTable(join(folder.path, "labels.csv"), options);
  };
  before(() => Promise.all(FILES.map((file) => folder.write(`photos/${file}`, ""))));
  const images = () => ({ images: join(folder.path, "photos") });

  it("takes any number of labels of each image, quoted ones too, from the table's folder or another", async () => {
    const text =
      'path,labels\n# a note\nphotos/e.png\nphotos/c/d.png,dog,"cat, grey"\n"photos/b,1.png",cat,,\n./photos/a.png , dog\n';
    const { root, files, classes, labels, labelSets } = await read(text);
    expect(root).to.equal(folder.path);
    expect(files).to.deep.equal(FILES.map((file) => `photos/${file}`));
    expect(classes).to.deep.equal(["cat", "cat, grey", "dog"]);
    expect(labelSets).to.deep.equal([[2], [0], [1, 2], []]);
    expect(labels).to.have.length(0);
    const other = await read(text.replaceAll("photos/", ""), images());
    expect(other).to.deep.include({ files: FILES, labelSets });
  });

  it("has a fingerprint of the labels too", async () => {
    const of = async (text: string) => fingerprint(await read(text, images()));
    expect(await of("a.png,x\ne.png,y\n")).to.equal(await of("e.png,y\na.png,x,\n"));
    expect(await of("a.png,x\ne.png,y\n")).not.to.equal(await of("a.png,y\ne.png,x\n"));
  });

  const [composed, decomposed] = ["caf\u00e9", "cafe\u0301"];
  const faults: readonly [text: string, says: string][] = [
    ["", "labels.csv: expected lines of an image and its labels, found none"],
    ["path,label\n", "labels.csv: expected lines of an image and its labels, found none"],
    ["a.png\ne.png\n", "labels.csv: expected labels of two classes or more, found no label"],
    ["a.png,x\ne.png,x\n", 'labels.csv: expected labels of two classes or more, found one class "x"'],
    ["a.png,x\nf.png,y\n", 'photos, found no "f.png"; name them relative to that folder'],
    ["a.png,x\ne.png,y,x,y\n", 'labels.csv:2: expected different labels, found "y" twice'],
    [`a.png,x,${composed},${decomposed}\n`, `labels.csv:1: expected different labels, found "${decomposed}"`],
    [
      `a.png,x,${composed}\ne.png,${decomposed}\n`,
      `labels.csv:2: expected one form of each label, found "${decomposed}" in another form of Unicode than on line 1`,
    ],
    [
      "a.png,x\ne.png,y\na.png,y\n",
      'labels.csv:3: expected an image of its own, found "a.png", as on line 1',
    ],
    [`a.png,x,${"y".repeat(201)}\n`, "labels.csv:1: expected labels of at most 200 printable characters"],
    ['a.png,"x\n', "labels.csv:1: expected values with commas between them"],
  ];
  for (const [text, says] of faults) {
    it(`says: ${says}`, async () => {
      const error = await read(text, images()).catch((thrown) => thrown);
      expect(error).to.be.instanceOf(UserError);
      expect(error.message).to.include(says).and.not.include("\n");
    });
  }

  it("says that there is no such table, or no images", async () => {
    expect(await failure(findLabelTable(join(folder.path, "none.csv")))).to.match(
      /none\.csv: expected a CSV of/,
    );
    await writeFile(join(folder.path, "labels.csv"), "a.png,x,y\n");
    const empty = { images: join(folder.path, "none") };
    expect(await failure(findLabelTable(join(folder.path, "labels.csv"), empty))).to.match(
      /nothing at this path/,
    );
  });
});

describe("data/label-sets", () => {
  // 100 images: two of class 0, one of class 1, half of class 2, the others of none.
  const sets = Array.from({ length: 100 }, (_, row) => [
    ...(row === 17 || row === 60 ? [0] : []),
    ...(row === 60 ? [1] : []),
    ...(row % 2 === 0 ? [2] : []),
  ]);
  const classesOf = (rows: readonly number[]) => new Set(rows.flatMap((row) => sets[row]!));

  it("draws images by the seed, with each class among them, a smaller share part of a larger", () => {
    for (let seed = 0; seed < 20; seed++) {
      const few = rowsOfShareCovering(sets, 0.01, seed);
      const more = rowsOfShareCovering(sets, 0.3, seed);
      expect(few.length).to.be.within(1, 3);
      expect(more)
        .to.have.length(30)
        .and.to.include.members([...few]);
      for (const rows of [few, more]) {
        expect([...classesOf(rows)].sort()).to.deep.equal([0, 1, 2]);
        expect(rows).to.deep.equal([...new Set(rows)].sort((a, b) => a - b));
      }
    }
    expect(rowsOfShareCovering(sets, 0.3, 1)).to.deep.equal(rowsOfShareCovering(sets, 0.3, 1));
    expect(rowsOfShareCovering(sets, 0.3, 1)).not.to.deep.equal(rowsOfShareCovering(sets, 0.3, 2));
    expect(drawCovering(sets, 1000, "key")).to.have.length(100);
    expect(() => rowsOfShareCovering(sets, 0, 0)).to.throw(UserError, "a share above 0");
  });

  it("holds images out by the seed, but none that a class would miss", () => {
    for (let seed = 0; seed < 20; seed++) {
      const out = rowsHeldOutOfSets(sets, 0.5, seed);
      expect(out).to.have.length(50).and.not.include(60);
      const left = Array.from(sets.keys()).filter((row) => !out.includes(row));
      expect(classesOf(left)).to.have.property("size", 3);
    }
    expect(rowsHeldOutOfSets(sets, 0.5, 1)).not.to.deep.equal(rowsHeldOutOfSets(sets, 0.5, 2));
    expect(rowsHeldOutOfSets([[0], [1], [2]], 0.9, 0)).to.deep.equal([]);
    expect(rowsHeldOutOfSets([[], [], []], 1, 0)).to.have.length(2);
  });
});
