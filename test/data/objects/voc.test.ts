import { expect } from "chai";
import { annotatedFolder, object, pixelsOf, SIZE } from "./annotated.ts";

describe("data/objects/voc", () => {
  const { folder, image, read, fault, voc } = annotatedFolder();

  it("counts pixels from 1, the last one within, and ignores difficult objects", async () => {
    const objects = [
      object("dog", [1, 1, 20, 10], "<difficult>1</difficult><part><name>head</name></part>"),
      object("a", [3, 2, 3, 2]),
    ];
    const sources = await read(await voc("difficult", SIZE + objects.join("")));
    expect(sources.classes).to.deep.equal(["a", "dog"]);
    expect(pixelsOf(sources)).to.deep.equal([
      [0, 0, 20, 10],
      [2, 1, 3, 2],
    ]);
    expect([...sources.objects![0]!.ignored]).to.deep.equal([1, 0]);
    expect([...sources.objects![0]!.classes]).to.deep.equal([1, 0]);
    expect(sources.objects![0]).not.to.have.property("areas");
  });

  it("finds an image by the name in its annotation, and leaves those without one out", async () => {
    await image("renamed/JPEGImages/photo.jpg");
    await image("renamed/JPEGImages/other.jpg");
    const text = `<annotation><filename>photo.jpg</filename>${object("cat", [1, 1, 4, 4])}</annotation>`;
    await folder.write("renamed/Annotations/0001.xml", text);
    const { files, notes } = await read("renamed");
    expect(files).to.deep.equal(["JPEGImages/photo.jpg"]);
    expect(notes).to.deep.equal([
      `${folder.path}/renamed/JPEGImages: left out images without an annotation: 1`,
    ]);
  });

  const cases: [name: string, body: string, wanted: string][] = [
    ["NaN", object("cat", ["nan", 2, 3, 4]), "/a.xml: object 1: expected a number for xmin, found nan"],
    [
      "an infinite box",
      object("cat", [1, 2, "1e999", 4]),
      "/a.xml: object 1: expected a number for xmax, found 1e999",
    ],
    [
      "no box",
      "<object><name>cat</name></object>",
      "/a.xml: object 1: expected a number for xmin, found none",
    ],
    ["no name", object(" ", [1, 2, 3, 4]), "/a.xml: object 1: expected a name, found none"],
    [
      "a key of prototypes",
      "<__proto__>1</__proto__>",
      '/a.xml: expected XML, found [SECURITY] Invalid name: "__proto__" is a reserved JavaScript keyword that could cause prototype pollution',
    ],
    [
      "what is cut off",
      "<object>",
      "/a.xml:1: expected XML, found Expected closing tag 'object' (opened in line 1, col 39) instead of closing tag 'annotation'.",
    ],
    [
      "deep elements",
      "<a>".repeat(1000) + "</a>".repeat(1000),
      "/a.xml: expected XML, found Maximum nested tags exceeded",
    ],
  ];
  for (const [name, body, wanted] of cases)
    it(`refuses ${name}`, async () => {
      const data = await voc(`voc ${name}`, body);
      expect(await fault(data)).to.equal(data + wanted);
    });

  it("refuses definitions, other XML, and lists of what is not there", async () => {
    await voc("other", object("cat", [1, 2, 3, 4]));
    await folder.write("other/a.xml", '<!DOCTYPE a [<!ENTITY b "cc">]><annotation>&b;</annotation>');
    expect(await fault("other")).to.equal("other/a.xml: expected XML without a document type, found one");
    await folder.write("other/a.xml", "<svg/>");
    expect(await fault("other")).to.equal(
      "other/a.xml: expected an annotation of Pascal VOC, found other XML",
    );
    await folder.write("renamed/bad.txt", "0001\nnone\n");
    expect(await fault("renamed/bad.txt")).to.equal(
      'renamed/bad.txt: expected names of annotations in renamed/Annotations, found no "none"',
    );
    await folder.write("other/list.txt", "a\n");
    expect(await fault("other/list.txt")).to.equal(
      "other/list.txt: expected a list of Pascal VOC's, such as ImageSets/Main/train.txt, found no folder Annotations above it",
    );
  });
});
