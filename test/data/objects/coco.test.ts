import { expect } from "chai";
import { findObjects } from "../../../src/data/objects/objects.ts";
import { UserError } from "../../../src/errors.ts";
import { annotatedFolder, boxOf, type CocoCase, IMAGE } from "./annotated.ts";

describe("data/objects/coco", () => {
  const { folder, read, fault, coco } = annotatedFolder();

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

  const cases: readonly CocoCase[] = [
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
