import { expect } from "chai";
import { EVER, openItems } from "../../src/data/items.ts";
import { groupsOfTracks, tracksIn } from "../../src/data/tracks.ts";
import { UserError } from "../../src/errors.ts";

const files = ["a/1.png", "a/10.png", "a/2.png", "b/1.png"];
const MOT_FILES = ["img/000001.png", "img/000002.png", "seq.png"];
const CSV = "track,image,x,y,width,height\n";
const sizes = new Map(files.map((_, i) => [i, [100, 50] as const]));
const group = (text: string, margin = 0) =>
  groupsOfTracks(tracksIn(`${CSV}${text}`, "t.csv", "/root", files), margin, sizes, "t.csv");

describe("data/tracks", () => {
  it("reads a table with names of columns, in the order of the numbers in the images' names", () => {
    const found = tracksIn(`${CSV}7,a/10.png,1,2,3,4\n7,a/1.png,5,6,7,8.5`, "t.csv", "/root", files);
    expect(found).to.deep.equal([
      { file: 1, track: "7", at: 2, x: 1, y: 2, width: 3, height: 4, where: "t.csv:2" },
      { file: 0, track: "7", at: 0, x: 5, y: 6, width: 7, height: 8.5, where: "t.csv:3" },
    ]);
  });

  it("reads MOT's boxes by the frames' numbers, without those that it does not count", () => {
    const text = "1,4,10,20,30,40,1,1,1\n2,4,11,20,30,40,1,1,1\n2,5,1,2,3,4,0,1,1\n2,-1,1,2,3,4\n";
    const found = tracksIn(text, "gt.txt", "/root", MOT_FILES);
    expect(found.map(({ file, track, at, x }) => [file, track, at, x])).to.deep.equal([
      [0, "4", 1, 10],
      [1, "4", 2, 11],
      [1, "-1", 2, 1],
    ]);
  });

  it("reads COCO's annotations that have a track, apart for each video", () => {
    const coco = {
      images: [
        { id: 11, file_name: "a/1.png", frame_id: 3 },
        { id: 12, file_name: "a/2.png" },
        { id: 13, file_name: "b/1.png", video_id: 9 },
      ],
      annotations: [
        { image_id: 11, bbox: [1, 2, 3, 4], track_id: 1 },
        { image_id: 12, bbox: [1, 2, 3, 4], instance_id: 1 },
        { image_id: 13, bbox: [1, 2, 3, 4], track_id: 1 },
        { image_id: 13, bbox: [1, 2, 3, 4] },
      ],
    };
    const found = tracksIn(JSON.stringify(coco), "t.json", "/root", files);
    expect(found.map(({ file, track, at }) => [file, track, at])).to.deep.equal([
      [0, "a 1", 3],
      [2, "a 1", 1],
      [3, "9 1", 0],
    ]);
  });

  it("shows a box and its margin, as far as the image goes, and never more", () => {
    const { groups, side } = group("1,a/1.png,10,10,20,10\n1,a/2.png,90,-5,20,10.5", 0.25);
    expect(groups[0]!.pictures).to.deep.equal([
      { file: 0, box: { top: 8, left: 5, height: 4 + 10, width: 30 } }, // of 7.5 to 22.5 whole pixels
      { file: 2, box: { top: 0, left: 85, height: 8, width: 15 } },
    ]);
    expect(side).to.equal(14);
    const { count, pair } = openItems({ groups, window: EVER, far: EVER, fingerprint: "" }, 0);
    expect(count).to.equal(1);
    expect(new Set(pair(0, 0).map(({ file }) => file))).to.deep.equal(new Set([0, 2]));
    const tiny = group("1,a/1.png,10.2,10.2,0.5,0.5\n1,a/2.png,99.5,49.5,9,9").groups[0]!;
    expect(tiny.pictures).to.deep.equal([
      { file: 0, box: { top: 10, left: 10, height: 1, width: 1 } },
      { file: 2, box: { top: 49, left: 99, height: 1, width: 1 } },
    ]);
  });

  it("leaves out what makes no pair, and says so", () => {
    const good = "1,a/1.png,10,10,20,10\n1,a/2.png,10,10,20,10\n";
    const bad = "1,a/10.png,100,0,5,5\n2,a/1.png,0,0,0,5\n3,a/1.png,0,0,5,5\n4,b/1.png,0,0,5,5\n";
    const { groups, notes } = group(good + bad);
    expect(groups).to.have.length(1);
    expect(notes).to.deep.equal([
      "left out boxes outside of their images: 1, the first at t.csv:4",
      "left out boxes without a size: 1, the first at t.csv:5",
      "left out tracks of one frame: 2, the first at t.csv:6",
    ]);
    expect(() => group(bad)).to.throw(
      UserError,
      "t.csv: expected a track with boxes in two images, found none; left out boxes outside",
    );
  });

  const faults: readonly [text: string, says: string, path?: string][] = [
    [`${CSV}1,a/3.png,1,1,1,1`, 't.csv: expected images of /root, found no "a/3.png"'],
    [`${CSV}1,seq.png,1,1,wide,1`, "t.csv:2: expected a number for width, found none"],
    [CSV, "t.csv: expected boxes of tracks, found none"],
    [
      "image,x,y\na/1.png,1,1",
      "t.csv:1: expected columns image, track, x, y, width, height, found no track, width, height",
    ],
    ["1,2,3\n", "t.csv:1: expected columns image, track, x, y, width, height, or MOT's, found 3 values"],
    ["3,1,1,1,1,1\n", "t.csv: expected images of /root named by its frames, found none for frame 3"],
    ["one,1,1,1,1,1\n", "t.csv:1: expected a frame and a track first, found one,1"],
    ["{", "t.json: expected JSON, found ", "t.json"],
    ["[]", "t.json: expected COCO's images and annotations, found others", "t.json"],
    [
      '{"images": [], "annotations": [{"track_id": 1, "image_id": 5, "bbox": [0, 0, 1, 1]}]}',
      "t.json: annotations[0]: expected an image_id of images, found 5",
      "t.json",
    ],
  ];
  for (const [text, says, path = "t.csv"] of faults) {
    it(`says: ${says}`, () => {
      expect(() => tracksIn(text, path, "/root", MOT_FILES)).to.throw(UserError, says);
    });
  }

  it("refuses two boxes of a track in one image, and MOT's tracks of two videos", () => {
    expect(() => group("1,a/1.png,1,1,9,9\n1,a/1.png,2,2,9,9")).to.throw(
      UserError,
      "t.csv:3: expected one box of a track in an image, found a second",
    );
    expect(() => tracksIn("1,1,1,1,1,1", "gt.txt", "/root", files)).to.throw(
      UserError,
      "gt.txt: expected one image for each frame in /root, found two for 1; MOT's tracks are of one video",
    );
  });
});
