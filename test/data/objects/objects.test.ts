import { join } from "node:path";
import { expect } from "chai";
import { findObjects } from "../../../src/data/objects/objects.ts";
import { fingerprint, type Sources, takeFiles } from "../../../src/data/sources.ts";
import { type Scene, SHAPES, shapes } from "../../support/shapes.ts";
import { annotatedFolder, boxOf, IMAGE, object, pixelsOf, SIZE } from "./annotated.ts";

describe("data/objects", () => {
  const { folder, image, read, fault, coco, voc, yolo } = annotatedFolder();

  describe("three forms of the same scenes", () => {
    const forms = ["coco", "voc", "yolo"] as const;
    let found: Sources[];
    let scenes: readonly Scene[];

    before(async () => {
      const made = await Promise.all(
        forms.map((form) => shapes(join(folder.path, `shapes-${form}`), { form, images: 5 })),
      );
      found = await Promise.all(made.map(({ data }) => findObjects(data)));
      scenes = made[0]!.scenes;
    });

    it("gives each image's boxes, classes and size", () => {
      for (const sources of found) {
        expect(sources.classes).to.deep.equal(SHAPES);
        expect(sources.notes).to.deep.equal([]);
        expect(sources.labels).to.have.length(0);
        expect(sources.files.map((file) => file.slice(-10))).to.deep.equal(
          scenes.map(({ file }) => file.slice(-10)),
        );
        for (const [i, { width, height, shapes }] of scenes.entries()) {
          const objects = sources.objects![i]!;
          expect([objects.width, objects.height]).to.deep.equal([width, height]);
          expect([...objects.classes]).to.deep.equal(shapes.map(({ shape }) => shape));
          expect([...objects.ignored]).to.deep.equal(shapes.map(() => 0));
          expect(pixelsOf(sources, i)).to.deep.equal(
            shapes.map(({ left, top, width, height }) => [left, top, left + width, top + height]),
          );
        }
      }
    });

    it("reads a folder's only JSON, a list of Pascal VOC's and a set of YOLO's as well", async () => {
      const { files } = await read("shapes-coco");
      expect(files).to.have.length(5);
      const list = await folder.write("shapes-voc/ImageSets/Main/some.txt", "000003 1\r\n000001  -1\n");
      const some = await findObjects(list);
      expect(some.files).to.deep.equal(["JPEGImages/000001.png", "JPEGImages/000003.png"]);
      expect(some.classes).to.deep.equal(SHAPES);
      expect(pixelsOf(some, 1)).to.deep.equal(pixelsOf(found[1]!, 3));
      expect((await read("shapes-yolo/images/train")).objects).to.deep.equal(found[2]!.objects);
      expect((await read("shapes-yolo/data.yaml")).objects).to.deep.equal(found[2]!.objects);
    });

    it("takes a sample of images with their objects", async () => {
      const some = await read("shapes-voc", { limit: 2, seed: 3 });
      expect(some.files).to.have.length(2);
      expect((await read("shapes-voc", { limit: 2, seed: 3 })).files).to.deep.equal(some.files);
      const rows = some.files.map((file) => found[1]!.files.indexOf(file));
      expect(takeFiles(found[1]!, rows)).to.deep.equal(some);
    });

    it("has a fingerprint of its boxes and classes", () => {
      const [one] = found as [Sources];
      const { files, objects, classes } = one;
      const moved = objects!.map((own, i) =>
        i === 2 ? { ...own, boxes: own.boxes.map((x) => x / 2) } : own,
      );
      const prints = [
        { files },
        one,
        { files, classes, objects: moved },
        { files, objects, classes: ["a", "b", "c"] },
      ].map(fingerprint);
      expect(new Set(prints).size).to.equal(4);
      expect(fingerprint({ files, classes })).to.equal(prints[0]);
      expect(fingerprint({ files, classes, objects })).to.equal(prints[1]);
    });
  });

  describe("boxes", () => {
    it("end at their image's edges; those outside of it or without a size are left out", async () => {
      const bboxes = [
        [-5, -5, 10, 10],
        [15, 5, 100, 100],
        [20, 0, 5, 5],
        [0, -9, 5, 8],
        [3, 3, 0, 4],
        [3, 3, 4, -1],
        [4, 4, 1e-12, 2],
      ];
      const sources = await read(await coco("edges", { annotations: bboxes.map((bbox) => boxOf(bbox)) }));
      expect(pixelsOf(sources)).to.deep.equal([
        [0, 0, 5, 5],
        [15, 5, 20, 10],
      ]);
      expect(sources.notes.map((note) => note.replace(folder.path, ""))).to.deep.equal([
        "left out boxes outside of their images: 2, the first at /edges/boxes.json: annotations[2]",
        "left out boxes without a size: 3, the first at /edges/boxes.json: annotations[4]",
      ]);
    });

    it("may be ten thousand in one image", async () => {
      const many = Array.from({ length: 10_000 }, (_, i) => boxOf([i % 19, i % 9, 1, 1]));
      const { objects } = await read(await coco("many", { annotations: many }));
      expect(objects![0]!.classes).to.have.length(10_000);
      const xml = await read(await voc("many-xml", SIZE + object("c&amp;t", [2, 2, 9, 9]).repeat(10_000)));
      expect(xml.objects![0]!.boxes).to.have.length(40_000);
      expect(xml.classes).to.deep.equal(["c&t"]);
      const text = await read(await yolo("many-text", "1 0.5 0.5 0.25 0.5\n".repeat(10_000)));
      expect(text.objects![0]!.ignored).to.have.length(10_000);
      expect(await fault(await yolo("more", "1 0.5 0.5 0.25 0.5\n".repeat(100_001)))).to.equal(
        "more/labels/a.txt: expected 100000 boxes of an image at most, found 100001",
      );
    });

    it("lie in the image as it is shown", async () => {
      await image("turned/images/a.jpg", 6);
      await folder.write("turned/labels/a.txt", "0 0.5 0.5 0.2 0.2");
      await folder.write("turned/data.yaml", "names: [cat]");
      expect(pixelsOf(await read("turned"))).to.deep.equal([[4, 8, 6, 12]]);
    });

    it("are needed in a folder, but not in an image", async () => {
      const images = [IMAGE, { id: 2, file_name: "b.jpg", width: 20, height: 10 }];
      await image("background/b.jpg");
      const { files, objects } = await read(await coco("background", { images }));
      expect(files).to.deep.equal(["a.jpg", "b.jpg"]);
      expect(objects![1]).to.deep.equal({
        boxes: new Float32Array(0),
        classes: new Int32Array(0),
        ignored: new Uint8Array(0),
        width: 20,
        height: 10,
      });
      expect(await fault(await coco("none", { annotations: [] }))).to.equal(
        "none/boxes.json: expected boxes of objects, found none",
      );
      expect(await fault(await voc("none-xml", SIZE))).to.equal(
        "none-xml: expected boxes of objects, found none",
      );
      expect(await fault(await coco("outside", { annotations: [boxOf([90, 90, 5, 5])] }))).to.match(
        /^outside\/boxes.json: expected boxes of objects, found none; left out boxes outside .*annotations\[0\]$/,
      );
    });
  });

  describe("images", () => {
    it("of another size than is stated are left out", async () => {
      await image("sizes/b.jpg", 6);
      const images = [IMAGE, { ...IMAGE, id: 2, file_name: "b.jpg" }];
      const sources = await read(await coco("sizes", { images }));
      expect(sources.files).to.deep.equal(["a.jpg"]);
      expect(sources.notes.map((note) => note.replace(folder.path, ""))).to.deep.equal([
        "left out images of another size than is stated: 1, the first at /sizes/boxes.json: images[1] (10x20, not 20x10)",
      ]);
    });

    it("are asked for their size where none is stated, and left out where they have none", async () => {
      expect(pixelsOf(await read(await voc("no-size", object("cat", [1, 2, 3, 4]))))).to.deep.equal([
        [0, 1, 3, 4],
      ]);
      await folder.write("no-size/b.jpg", "no image");
      await folder.write("no-size/b.xml", `<annotation>${object("cat", [1, 2, 3, 4])}</annotation>`);
      const { files, notes } = await read("no-size");
      expect(files).to.deep.equal(["a.jpg"]);
      expect(notes).to.deep.equal([
        `left out images that cannot be read: 1, the first at ${folder.path}/no-size/b.xml`,
      ]);
    });

    it("must be there, once each, and of one set", async () => {
      const images = ["a.jpg", "b.jpg", "../a.jpg"].map((name, id) => ({ id, file_name: name }));
      expect(await fault(await coco("missing", { images, annotations: [] }))).to.equal(
        'missing/boxes.json: expected images of missing, found no "b.jpg", "../a.jpg"; ' +
          "give the folder that its names are relative to with --images",
      );
      await voc("missing-xml", object("cat", [1, 2, 3, 4]));
      await folder.write("missing-xml/b.xml", "<annotation><filename>c.jpg</filename></annotation>");
      expect(await fault("missing-xml")).to.equal(
        'missing-xml: expected annotations of images in missing-xml, found no "c.jpg"',
      );
      expect(await fault(await coco("twice", { images: [IMAGE, { ...IMAGE, id: 3 }] }))).to.equal(
        "twice/boxes.json: images[1]: expected one annotation for each image, found a second for a.jpg",
      );
      await yolo("sets", "0 0.5 0.5 0.2 0.2");
      await image("sets/images/train/a.jpg");
      await image("sets/images/val/a.jpg");
      expect(await fault("sets")).to.equal(
        "sets: expected one set of images, found several (train, val); did you mean sets/images/train or sets/images/val?",
      );
    });

    it("are found where COCO's file is told they are", async () => {
      await coco("apart/images");
      await folder.write(
        "apart/annotations/boxes.json",
        JSON.stringify({
          images: [{ id: "a", file_name: "a.jpg" }],
          annotations: [{ image_id: "a", category_id: 0, bbox: [0, 0, 1, 1] }],
          categories: [{ id: 0, name: "cat" }],
        }),
      );
      const { root, files } = await read("apart/annotations/boxes.json", {
        images: join(folder.path, "apart/images"),
      });
      expect([root, files]).to.deep.equal([join(folder.path, "apart/images"), ["a.jpg"]]);
      expect(await fault("apart/annotations")).to.match(
        /^apart\/annotations: expected images .*, found none .*; give the folder .* with --images$/,
      );
      expect(await fault(await yolo("not-coco", "0 0.5 0.5 0.2 0.2"), { images: "x" })).to.equal(
        "--images: expected it with COCO's JSON, found YOLO's annotations",
      );
    });
  });

  it("says what it reads where nothing fits", async () => {
    await image("nothing/a.jpg");
    const forms =
      "expected COCO's .json, a folder or a list of Pascal VOC's, or a folder or data.yaml of YOLO's";
    expect(await fault("nothing")).to.equal(`nothing: ${forms}, found none of them in it`);
    expect(await fault("nothing/a.jpg")).to.equal(`nothing/a.jpg: ${forms}, found another file`);
    expect(await fault("nowhere")).to.equal(`nowhere: ${forms}, found no such file or directory (ENOENT)`);
    await folder.write("nothing/a.json", "{}");
    await folder.write("nothing/b/b.json", "{}");
    expect(await fault("nothing")).to.equal(`nothing: ${forms}, found 2 .json files; give one of them`);
  });
});
