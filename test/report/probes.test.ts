import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { layerCharts, probesComparison, probesSection } from "../../src/report/probe-sections.ts";
import {
  type Accuracy,
  askedBy,
  type Probe,
  readProbes,
  type Segmentation,
} from "../../src/report/probes.ts";
import type { Run } from "../../src/report/run.ts";
import { failure, temporaryFolder } from "../data/folder.ts";

const HOSTILE = "<img src=x onerror=alert(1)>";

const knn = (more: Partial<Accuracy> = {}): Accuracy => ({
  ...{
    kind: "knn",
    k: 5,
    temperature: 0.1,
    step: 40,
    time: "2026-01-01T00:00:00.000Z",
    seed: 0,
    features: 64,
  },
  data: { train: "/train", test: "/test" },
  ...{ train: 12, test: 10, top1: 50, low: 20.5, high: 79.5, top5: 90 },
  classes: [
    { class: "cat", images: 4, top1: 75 },
    { class: HOSTILE, images: 6, top1: 50 },
  ],
  confusion: {
    names: ["cat", HOSTILE],
    pairs: [
      [0, 0, 3],
      [1, 1, 3],
      [1, 0, 3],
      [0, 1, 1],
    ],
  },
  ...more,
});
const rank: Probe = {
  ...{ kind: "rank", rankme: 12.345, alpha: null, uniformity: -1.5, images: 30 },
  ...{ step: 40, time: "2026-01-01T00:00:00.000Z", seed: 0, features: 64, data: { images: "/photos" } },
};

const URL = `data:image/webp;base64,${Buffer.from("picture").toString("base64")}`;
const SPRITE = { url: URL, columns: 3, rows: 1, cell: 160 };
const segmentation = (more: Partial<Segmentation> = {}): Segmentation => ({
  ...{ kind: "segmentation", meanIoU: 45.5, low: 40, high: 50, pixelAccuracy: 80.25, train: 8, test: 2 },
  ...{
    stage: HOSTILE,
    grid: 4,
    epochs: 100,
    features: 64,
    step: 40,
    time: "2026-01-01T00:00:00.000Z",
    seed: 0,
  },
  data: { images: "/masked" },
  classes: [
    { class: "ground", pixels: 100, iou: 91 },
    { class: HOSTILE, pixels: 20, iou: 0 },
  ],
  confusion: {
    names: ["ground", HOSTILE],
    pairs: [
      [0, 0, 90],
      [1, 0, 20],
      [0, 1, 10],
    ],
  },
  pictures: {
    sprite: SPRITE,
    files: [HOSTILE],
    classes: [{ index: 1, class: HOSTILE }],
  },
  ...more,
});

describe("probes of a run", () => {
  const folder = temporaryFolder();
  const read = async (content: unknown) => {
    await mkdir(join(folder.path, "run"), { recursive: true });
    const text = typeof content === "string" ? content : JSON.stringify(content);
    await writeFile(join(folder.path, "run/probes.json"), text);
    return readProbes(join(folder.path, "run"));
  };

  it("are read as they were written, none where there is no file", async () => {
    expect(await readProbes(folder.path)).to.deep.equal([]);
    const all = [knn(), rank, segmentation()];
    expect(await read({ format: 1, probes: all })).to.deep.equal(all);
  });

  it("are refused where they are something else", async () => {
    const refused: readonly (readonly [RegExp, unknown])[] = [
      [/probes\.json: expected JSON, found something else; remove it/, "{"],
      [/"format": expected 1, found 2; a newer/, { format: 2, probes: [] }],
      [/probes\.0\.top1/, { format: 1, probes: [{ ...knn(), top1: HOSTILE }] }],
      [/probes\.0\.kind/, { format: 1, probes: [{ ...knn(), kind: "constructor" }] }],
      [/probes\.0\.data/, { format: 1, probes: [{ ...knn(), data: "/train" }] }],
      [
        /places in its names/,
        { format: 1, probes: [knn({ confusion: { names: ["a"], pairs: [[0, 1, 2]] } })] },
      ],
      [
        /confusion\.pairs/,
        { format: 1, probes: [knn({ confusion: { names: ["a"], pairs: Array(2001).fill([0, 0, 1]) } })] },
      ],
      [/probes: /, { format: 1, probes: Array(51).fill(knn()) }],
      ...[`${URL}" onload="x`, "https://example.com/x.webp", "data:text/html;base64,PHg+"].map(
        (url) =>
          [
            /pictures\.sprite\.url/,
            {
              format: 1,
              probes: [
                segmentation({ pictures: { ...segmentation().pictures!, sprite: { ...SPRITE, url } } }),
              ],
            },
          ] as const,
      ),
      [/of at most 17 MB/, " ".repeat(2 ** 24 + 1)],
    ];
    for (const [said, content] of refused) expect(await failure(read(content))).to.match(said);
  });

  it("are asked alike with the same settings on the same data, whatever came of it", () => {
    expect(askedBy(knn({ step: 80, top1: 60, time: "later" }))).to.equal(askedBy(knn()));
    const others = [knn({ k: 6 }), knn({ labels: 0.1 }), knn({ limit: 5 }), knn({ seed: 1 }), rank];
    const masks = [segmentation(), segmentation({ stage: "layer2" }), segmentation({ epochs: 5 })];
    expect(new Set([...masks, segmentation({ meanIoU: 1, step: 80 })].map(askedBy)).size).to.equal(3);
    const elsewhere = knn({ data: { train: "/train", test: "/other" } });
    expect(new Set([knn(), ...others, elsewhere].map(askedBy)).size).to.equal(7);
  });

  it("are a table, with intervals, and a confusion of few classes", () => {
    const { text } = probesSection([knn(), rank], [], 0)!;
    expect(text).to.match(/kNN<\/bdi><\/th><td><strong>50.00 %<\/strong><\/td><td>20.50 to 79.50<\/td>/);
    expect(text)
      .to.match(/RankMe<\/bdi><\/th><td><strong>12.35<\/strong>/)
      .and.not.include("alpha");
    expect(text).to.include("90.00 %"); // top-5
    expect(probesSection([knn({ k: 4 })], [], 0)!.text).not.to.include("90.00 %");
    expect(text).not.to.include("<img");
    const cells = [...text.matchAll(/class="(right|wrong)" style="--share: (\d+)%"[^>]*>(\d+)</g)];
    expect(cells.map(([, kind, share, n]) => [kind, share, n])).to.deep.equal([
      ["right", "75", "3"],
      ["wrong", "25", "1"],
      ["wrong", "50", "3"],
      ["right", "50", "3"],
    ]);
    expect(probesSection([], [], 0)).to.equal(undefined);
    expect(probesSection([rank], [], 0)!.text).not.to.match(/<details|<figure/);
  });

  it("show of a segmentation each class, pictures in colours, and how pixels were confused", () => {
    const { text } = probesSection([segmentation()], [], 0)!;
    expect(text).to.match(
      /mean IoU, linear on &lt;img[^<]*<\/bdi><\/th><td><strong>45.50 %<\/strong><\/td><td>40.00 to 50/,
    );
    expect(text).to.match(/pixel accuracy<\/bdi><\/th><td><strong>80.25 %/);
    expect(text).to.match(/IoU of ground<\/bdi><\/th><td><strong>91.00 %/);
    expect(text).to.include(URL).and.include("rgb(128 0 0)").and.include("4x4 map, 100 epochs");
    expect(text.match(/class="cell masks0"/g)).to.have.length(3);
    expect(text).to.match(/the class of the pixels.*>20<\/td>.*0 %/s);
    expect(text).not.to.include("<img");
    const shared = probesComparison([{ name: "a" } as Run], [[segmentation()]])!.text;
    expect(shared).to.include("45.50 %").and.not.include(URL);
  });

  it("list the worst confusions of many classes", () => {
    const names = Array.from({ length: 31 }, (_, i) => (i === 2 ? HOSTILE : `c${i}`));
    const pairs: [number, number, number][] = [
      ...names.map((_, i): [number, number, number] => [i, i, 5]),
      [2, 1, 4],
    ];
    const classes = names.map((name) => ({ class: name, images: 9, top1: 50 }));
    const { text } = probesSection([knn({ classes, confusion: { names, pairs } })], [], 0)!;
    expect(text).to.match(/&lt;img[^<]*<\/bdi><\/td><td><bdi>c1<\/bdi><\/td><td>4 of 9</);
    expect(text).not.to.include("<img").and.not.include('class="confusion"');
    expect(text.match(/5 of 9/g)).to.equal(null);
  });

  it("have a chart over layers, with the interval", () => {
    const layer = (name: string, top1: number) => ({
      name,
      features: 64,
      top1,
      low: top1 - 2,
      high: top1 + 2,
    });
    const spread = (mean: number) => ({
      ...{ values: [mean - 1, mean + 1], mean, std: Math.SQRT2, least: mean - 1, greatest: mean + 1 },
    });
    const layers = [{ ...layer("stem", 30), repeats: spread(29) }, layer(HOSTILE, 40)];
    const repeats = { seeds: [0, 1], top1: spread(41), top5: spread(90) };
    const probe: Probe = { ...knn(), kind: "layers", layers, repeats };
    const [chart, ...others] = layerCharts([rank, knn(), probe]);
    expect(others).to.deep.equal([]);
    expect(chart!.labels).to.deep.equal(["stem", HOSTILE]);
    expect(chart!.series[0]).to.deep.include({ x: [0, 1], y: [30, 40], low: [28, 38], high: [32, 42] });
    const { text } = probesSection([probe], [chart!], 3)!;
    expect(text).to.include('data-chart="3"').and.include("linear on stem").and.not.include("<img");
    expect(text.match(/; 2 trainings: [^<]*/g)).to.deep.equal(["; 2 trainings: 29.00 ± 1.41 %"]);
    expect(probesSection([knn({ repeats })], [], 0)!.text).to.include("; 2 trainings: 41.00 ± 1.41 %<");
  });

  it("of runs stand side by side where they were asked alike", () => {
    const runs = ["a", "b"].map((name) => ({ name }) as Run);
    const better = knn({ top1: 60, step: 80 });
    const { text } = probesComparison(runs, [[knn(), rank], [better]])!;
    expect(text.match(/<tr>/g)).to.have.length(1 + 1 + 2);
    expect(text).to.match(/<strong>50.00 %<\/strong> \(20.50 to 79.50\)<\/td><td><strong>60.00 %/);
    expect(text).to.match(/12.35<\/strong><\/td><td>–<\/td>/);
    expect(probesComparison(runs, [[], []])).to.equal(undefined);
  });
});
