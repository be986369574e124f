import { join } from "node:path";
import { expect } from "chai";
import { findObjects, type ObjectsOptions } from "../../../src/data/objects/objects.ts";
import { fingerprint, type Sources, takeFiles } from "../../../src/data/sources.ts";
import { UserError } from "../../../src/errors.ts";
import { type Scene, SHAPES, shapes } from "../../support/shapes.ts";
import { failure, plain, temporaryFolder } from "../folder.ts";

const folder = temporaryFolder();

/** Writes an image of 20x10 pixels; EXIF's orientation 6 shows it as 10x20. */
const image = async (name: string, orientation = 1) =>
  folder.write(
    name,
    await plain(20, 10, "red").withExif({}).withMetadata({ orientation }).toFormat("jpeg").toBuffer(),
  );

const read = (data: string, options?: ObjectsOptions) => findObjects(join(folder.path, data), options);
const fault = async (data: string, options?: ObjectsOptions): Promise<string> =>
  (await failure(read(data, options))).replaceAll(`${folder.path}/`, "");

/** Boxes in pixels, to a thousandth. */
const pixelsOf = ({ objects }: Sources, place = 0): number[][] => {
  const { boxes, width, height } = objects![place]!;
  return Array.from({ length: boxes.length / 4 }, (_, i) =>
    [...boxes.subarray(4 * i, 4 * i + 4)].map(
      (x, side) => Math.round(1000 * x * (side % 2 ? height : width)) / 1000,
    ),
  );
};

interface CocoChanges {
  readonly images?: unknown;
  readonly annotations?: unknown;
  readonly categories?: unknown;
}

const IMAGE = { id: 1, file_name: "a.jpg", width: 20, height: 10 };
const boxOf = (bbox: unknown, more: object = {}) => ({ image_id: 1, category_id: 7, bbox, ...more });

/** Writes COCO's JSON beside an image; its name. */
async function coco(dir: string, changes: CocoChanges = {}): Promise<string> {
  await image(`${dir}/a.jpg`);
  const whole = {
    images: [IMAGE],
    annotations: [boxOf([1, 2, 3, 4])],
    categories: [{ id: 7, name: "cat" }],
    ...changes,
  };
  await folder.write(`${dir}/boxes.json`, JSON.stringify(whole));
  return `${dir}/boxes.json`;
}

const object = (name: string, edges: readonly (number | string)[], more = "") => {
  const [xmin, ymin, xmax, ymax] = edges;
  const box = `<xmin>${xmin}</xmin><ymin>${ymin}</ymin><xmax>${xmax}</xmax><ymax>${ymax}</ymax>`;
  return `<object><name>${name}</name>${more}<bndbox>${box}</bndbox></object>`;
};
const SIZE = "<size><width>20</width><height>10</height></size>";

/** Writes an image with XML beside it. */
async function voc(dir: string, body: string, filename = "a.jpg"): Promise<string> {
  await image(`${dir}/a.jpg`);
  await folder.write(`${dir}/a.xml`, `<annotation><filename>${filename}</filename>${body}</annotation>`);
  return dir;
}

/** Writes an image, a file of boxes and one of names. */
async function yolo(dir: string, lines: string, names = "names: [cat, dog]\n"): Promise<string> {
  await image(`${dir}/images/a.jpg`);
  await folder.write(`${dir}/labels/a.txt`, lines);
  await folder.write(`${dir}/data.yaml`, names);
  return dir;
}

describe("data/objects", () => {
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

  describe("COCO", () => {
    it("has classes in the order of their ids, crowds and areas", async () => {
      const categories = [
        { id: 10, name: "ten" },
        { id: 2, name: "__proto__" },
        { id: 33, name: "constructor" },
      ];
      const annotations = [
        boxOf([0, 0, 4, 4], { category_id: 33, area: 9.5 }),
        boxOf([1, 1, 2, 3], { category_id: 2, iscrowd: 1 }),
      ];
      const { classes, objects } = await read(await coco("ids", { categories, annotations }));
      expect(classes).to.deep.equal(["__proto__", "ten", "constructor"]);
      expect([...objects![0]!.classes]).to.deep.equal([2, 0]);
      expect([...objects![0]!.ignored]).to.deep.equal([0, 1]);
      expect([...objects![0]!.areas!]).to.deep.equal([9.5, 6]);
    });

    const cases: [name: string, changes: CocoChanges, wanted: string][] = [
      [
        "no annotations",
        { annotations: {} },
        ": expected COCO's images, annotations, categories, found no annotations",
      ],
      [
        "NaN as null",
        { annotations: [boxOf([1, null, 3, 4])] },
        ": annotations[0]: expected a bbox of four numbers, found [1,null,3,4]",
      ],
      [
        "no box",
        { annotations: [boxOf(undefined)] },
        ": annotations[0]: expected a bbox of four numbers, found none",
      ],
      [
        "no such image",
        { annotations: [boxOf([1, 2, 3, 4], { image_id: 5 })] },
        ": annotations[0]: expected an image_id of images, found 5",
      ],
      [
        "a key of prototypes",
        { annotations: [boxOf([1, 2, 3, 4], { image_id: "__proto__" })] },
        ': annotations[0]: expected an image_id of images, found "__proto__"',
      ],
      [
        "no such class",
        { annotations: [boxOf([1, 2, 3, 4], { category_id: 8 })] },
        ": annotations[0]: expected a category_id of categories, found 8",
      ],
      [
        "no annotation",
        { annotations: [null] },
        ": annotations[0]: expected an image_id of images, found none",
      ],
      ["an image without a name", { images: [{ id: 1 }] }, ": images[0]: expected a file_name, found none"],
      [
        "an id twice",
        { images: [IMAGE, { id: 1, file_name: "b.jpg" }] },
        ": images[1]: expected an id of its own, found 1 again",
      ],
      [
        "a class twice",
        {
          categories: [
            { id: 7, name: "cat" },
            { id: 8, name: "cat " },
          ],
        },
        ': expected each class once, found "cat" twice',
      ],
      [
        "a class without a name",
        {
          categories: [
            { id: 7, name: "cat" },
            { id: 8, name: " " },
          ],
        },
        ": expected a name for each class, found none for class 1",
      ],
      [
        "a long name",
        { categories: [{ id: 7, name: "x".repeat(201) }] },
        `: expected names of classes on one line of 200 characters at most, found "${"x".repeat(40)}"`,
      ],
      [
        "a name on two lines",
        { categories: [{ id: 7, name: "a\nb" }] },
        ': expected names of classes on one line of 200 characters at most, found "a\\nb"',
      ],
    ];
    for (const [name, changes, wanted] of cases)
      it(`refuses ${name}`, async () => {
        const data = await coco(`coco ${name}`, changes);
        expect(await fault(data)).to.equal(data + wanted);
      });

    it("refuses an infinite box", async () => {
      const text = '{"images":[{"id":1,"file_name":"a.jpg"}],"categories":[{"id":7,"name":"cat"}],';
      const box = '"annotations":[{"image_id":1,"category_id":7,"bbox":[1,2,1e999,4]}]}';
      await folder.write(await coco("infinite"), text + box);
      expect(await fault("infinite/boxes.json")).to.equal(
        "infinite/boxes.json: annotations[0]: expected a box of finite numbers, found 1, 2, Infinity, 6",
      );
    });

    it("refuses what is no JSON", async () => {
      const file = await folder.write("nan/boxes.json", '{"annotations": [{"bbox": [NaN, 1, 2, 3]}]}');
      const error = await findObjects(file).catch((error) => error);
      expect(error).to.be.instanceOf(UserError);
      expect(error.message).to.match(/^[^\n]*: expected JSON, found Unexpected token [^\n]*$/);
    });
  });

  describe("Pascal VOC", () => {
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
      await folder.write("shapes-voc/bad.txt", "000001\nnone\n");
      expect(await fault("shapes-voc/bad.txt")).to.equal(
        'shapes-voc/bad.txt: expected names of annotations in shapes-voc/Annotations, found no "none"',
      );
      await folder.write("other/list.txt", "a\n");
      expect(await fault("other/list.txt")).to.equal(
        "other/list.txt: expected a list of Pascal VOC's, such as ImageSets/Main/train.txt, found no folder Annotations above it",
      );
    });
  });

  describe("YOLO", () => {
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
