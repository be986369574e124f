import { expect } from "chai";
import { annotatedFolder, pixelsOf } from "./annotated.ts";

describe("data/objects/yolo", () => {
  const { folder, image, read, fault, yolo } = annotatedFolder();

  it("takes images without a file of labels as background, and boxes beside images", async () => {
    await yolo("labels", "1 0.5 0.5 0.2 0.4\n\n0 0.25 0.5 0.1 0.2\n");
    await image("labels/images/b.jpg");
    const sources = await read("labels");
    expect(sources.files).to.deep.equal(["images/a.jpg", "images/b.jpg"]);
    expect(pixelsOf(sources)).to.deep.equal([
      [8, 3, 12, 7],
      [4, 4, 6, 6],
    ]);
    expect(sources.notes).to.deep.equal([
      `${folder.path}/labels: images without a file of labels, taken to show no object: 1`,
    ]);
    await image("beside/a.jpg");
    await folder.write("beside/a.txt", "0 0.5 0.5 1 1");
    await folder.write("beside/classes.txt", "cat\ndog\n\n");
    const beside = await read("beside");
    expect(beside.classes).to.deep.equal(["cat", "dog"]);
    expect(pixelsOf(beside)).to.deep.equal([[0, 0, 20, 10]]);
  });

  const cases: [name: string, line: string, wanted: string][] = [
    [
      "a class out of range",
      "0 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4",
      ":2: expected a class from 0 to 1, found 2",
    ],
    ["half a class", "0.5 0.5 0.5 0.2 0.4", ":1: expected a class from 0 to 1, found 0.5"],
    ["a polygon", "0 0 0 1 0 1 1", ":1: expected a class, x, y, width and height, found 7 values"],
    ["NaN", "0 nan 0.5 0.2 0.4", ":1: expected a box of finite numbers, found NaN, 0.3, NaN, 0.7"],
  ];
  for (const [name, lines, wanted] of cases)
    it(`refuses ${name}`, async () => {
      const data = await yolo(`yolo ${name}`, lines);
      expect(await fault(data)).to.equal(`${data}/labels/a.txt${wanted}`);
    });

  it("refuses a class twice or without a name", async () => {
    expect(await fault(await yolo("names", "0 0.5 0.5 1 1", "names: [a, a]"))).to.equal(
      'names: expected each class once, found "a" twice',
    );
    expect(await fault(await yolo("names", "0 0.5 0.5 1 1", "names: [a, '']"))).to.equal(
      "names: expected a name for each class, found none for class 1",
    );
  });
});
