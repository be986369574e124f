import { expect } from "chai";
import { ap50Interval, type CocoMeasures, cocoScores } from "../../src/probe/coco.ts";
import type { Found, Judged, Truth } from "../../src/probe/detections.ts";
import { vocScores } from "../../src/probe/voc.ts";
import { fixture } from "../methods/parity.ts";

type Row = readonly number[];
type Values = readonly (number | null)[];
interface Expected {
  readonly all: Values;
  readonly classes: readonly Values[];
}
const { images, coco, voc } = fixture<{
  images: readonly { truth: readonly Row[]; found: readonly Row[] }[];
  coco: Expected;
  voc: Expected;
}>("average-precision");

const edges = (rows: readonly Row[]) =>
  rows.flatMap(([, left, top, width, height]) => [left!, top!, left! + width!, top! + height!]);
const column = (rows: readonly Row[], at: number) => rows.map((row) => row[at]!);
const judged = images.map(
  ({ truth, found }): Judged => ({
    truth: {
      boxes: edges(truth),
      classes: column(truth, 0),
      ignored: column(truth, 5),
      areas: column(truth, 6),
    },
    found: { boxes: edges(found), classes: column(found, 0), scores: column(found, 5) },
  }),
);
const classes = coco.classes.map((_, i) => `class${i}`);

function expectValues(found: Values, wanted: Values): void {
  expect(found).to.have.length(wanted.length);
  for (const [i, value] of wanted.entries()) {
    if (value === null) expect(found[i], `value ${i}`).to.equal(null);
    else expect(found[i], `value ${i}`).to.be.closeTo(value, 1e-6);
  }
}

const object = (box: Row, more: Partial<Truth> = {}): Truth => ({
  boxes: box,
  classes: [0],
  ignored: [0],
  ...more,
});
const detections = (boxes: readonly Row[], scores: Row, own = 0): Found => ({
  boxes: boxes.flat(),
  scores,
  classes: scores.map(() => own),
});
const NONE: Truth = { boxes: [], classes: [], ignored: [] };

describe("probe/coco", () => {
  const measures = (m: CocoMeasures): Values => [
    ...[m.ap, m.ap50, m.ap75, m.apSmall, m.apMedium, m.apLarge],
    ...[m.ar1, m.ar10, m.ar100],
  ];

  it("agrees with pycocotools, over all classes and of each", () => {
    const found = cocoScores(judged, classes);
    expectValues(measures(found), coco.all);
    expect(found.classes.map((own) => own.class)).to.deep.equal(classes);
    for (const [i, own] of found.classes.entries()) expectValues(measures(own), coco.classes[i]!);
  });

  it("agrees with Pascal VOC's devkit", () => {
    const found = vocScores(judged, classes);
    expectValues([found.ap50, found.elevenPoint], voc.all);
    for (const [i, { ap50, elevenPoint }] of found.classes.entries())
      expectValues([ap50, elevenPoint], voc.classes[i]!);
  });

  it("takes an overlap of a half as COCO does, and more than a half as VOC does", () => {
    const half = (bottom: number): Judged[] => [
      { truth: object([0, 0, 10, 10]), found: detections([[0, 0, 10, bottom]], [0.9]) },
    ];
    expect(cocoScores(half(5), ["a"]).ap50).to.equal(100);
    expect(vocScores(half(5), ["a"]).ap50).to.equal(0);
    expect(cocoScores(half(4.999), ["a"]).ap50).to.equal(0);
    expect(vocScores(half(5.001), ["a"]).ap50).to.equal(100);
  });

  it("measures objects by their area where it is known, else by their box", () => {
    const found = detections([[0, 0, 40, 40]], [0.9]);
    const of = (areas?: Row) => cocoScores([{ truth: object([0, 0, 40, 40], { areas }), found }], ["a"]);
    expect(of()).to.include({ apSmall: null, apMedium: 100 });
    expect(of([1000])).to.include({ apSmall: 100, apMedium: null });
  });

  it("is unknown where there is nothing to be found, and 0 where nothing was", () => {
    const found = detections([[0, 0, 9, 9]], [0.9]);
    const ignored = object([0, 0, 9, 9], { ignored: [1] });
    for (const truth of [NONE, ignored]) {
      expect(cocoScores([{ truth, found }], ["a"])).to.include({ ap: null, ar100: null });
      expect(vocScores([{ truth, found }], ["a"])).to.include({ ap50: null, elevenPoint: null });
      expect(ap50Interval([{ truth, found }], 1)).to.equal(null);
    }
    const missed = [{ truth: object([0, 0, 9, 9]), found: detections([], []) }];
    expect(cocoScores(missed, ["a", "b"])).to.include({ ap: 0, ap50: 0, ar100: 0 });
    expect(vocScores(missed, ["a", "b"])).to.include({ ap50: 0, elevenPoint: 0 });
  });

  it("has an interval over resamples of the images, by a seed", () => {
    const [low, high] = ap50Interval(judged, classes.length)!;
    expect(ap50Interval(judged, classes.length)).to.deep.equal([low, high]);
    expect(ap50Interval(judged, classes.length, { seed: 1 })).to.not.deep.equal([low, high]);
    expect([low, high]).to.not.include(coco.all[1]);
    expect(coco.all[1]).to.be.within(low, high);
    // Half of ten images are right: the share of the right ones among ten draws has a standard deviation of 16 %.
    const halves = Array.from({ length: 10 }, (_, i): Judged => {
      const box = i % 2 ? [0, 0, 10, 10] : [50, 50, 60, 60];
      return { truth: object([0, 0, 10, 10]), found: detections([box], [1 - 0.01 * i]) };
    });
    const [bottom, top] = ap50Interval(halves, 1)!;
    expect(bottom).to.be.below(20);
    expect(top).to.be.above(70);
    const all = halves.filter((_, i) => i % 2);
    expect(ap50Interval(all, 1)).to.deep.equal([100, 100]);
  });
});
