import { spawnSync } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { GRAPHS, prebuiltFolders } from "../../src/api/artifacts.ts";
import { askedPositives, checkMethod, findItems, type PositivesOptions } from "../../src/api/positives.ts";
import { viewsShown } from "../../src/api/report-views.ts";
import { openSeen } from "../../src/api/seen.ts";
import { train } from "../../src/api/train.ts";
import { readArtifact } from "../../src/artifact/files.ts";
import { countOf } from "../../src/data/sources.ts";
import { readRecords } from "../../src/report/run.ts";
import { settingsOf } from "../../src/report/settings.ts";
import { readConfig } from "../../src/train/run-folder.ts";
import { failure, plain, temporaryFolder } from "../data/folder.ts";
import { clips, listsOf, picture, tinyArtifact } from "../support/pictures.ts";

describe("api/positives", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  let lists: { tracks: string; pairs: string };
  before(async () => {
    lists = await listsOf(await clips(at("clips")));
  });

  const refused: readonly [PositivesOptions, says: string][] = [
    [{ window: "3" }, "--window: expected it with --positives frames or tracks, found crops"],
    [{ positives: "pairs", pairs: "p", far: "3" }, "--far: expected it with --positives frames, found pairs"],
    [{ positives: "frames", tracks: "t" }, "--tracks: expected it with --positives tracks, found frames"],
    [
      { positives: "pairs", pairs: "p", cropOverlap: 0.5 },
      "--crop-overlap: expected it with --positives crops, found pairs",
    ],
    [{ cropOverlap: 2 }, "--crop-overlap: expected 0 to 1, found 2"],
    [{ positives: "pairs" }, "--positives pairs: expected --pairs FILE, found none"],
    [{ positives: "tracks" }, "--positives tracks: expected --tracks FILE, found none"],
    [{ positives: "tracks", tracks: "t", trackMargin: -1 }, "--track-margin: expected 0 to 100, found -1"],
    ...["1.5", "0", "-1", "1m", "s", "1e3", "9999999s"].map((window): [PositivesOptions, string] => [
      { positives: "frames", window },
      `--window or --far: expected seconds such as "1.5s" or whole frames such as "8", found "${window}"`,
    ]),
  ];
  for (const [options, says] of refused) {
    it(`says: ${says}`, () => {
      expect(() => askedPositives(options)).to.throw(says);
    });
  }

  const frames = (more: PositivesOptions) =>
    findItems(at("clips"), askedPositives({ positives: "frames", ...more })!, {});

  it("takes frames where clips are folders, by default eight, and makes items of what is far", async () => {
    const { positives, sources, chosen } = await frames({});
    expect(positives).to.deep.equal({ kind: "frames", window: "8", far: "80" });
    expect(countOf(sources)).to.equal(6);
    expect(chosen).to.deep.equal(["positives: frames, 6 items of 6 clips; window 8, far 80"]);
    expect(countOf((await frames({ window: "2", far: "4" })).sources)).to.equal(12);
  });

  it("refuses times of folders, and extents that do not fit each other", async () => {
    expect(await failure(frames({ window: "1s" }))).to.equal(
      "--window: expected frames, as folders of frames have no times, found 1s; give a number without s",
    );
    expect(await failure(frames({ window: "5", far: "3" }))).to.equal(
      "--far: expected --window (5) or more, found 3",
    );
    expect(await failure(frames({ window: "5", far: "9s" }))).to.equal(
      "--far: expected frames, as --window has, found 9s",
    );
    const tracks = { positives: "tracks", tracks: lists.tracks, window: "1s" } as const;
    expect(await failure(findItems(at("clips"), askedPositives(tracks)!, {}))).to.match(
      /^--window: expected frames, as tracks have no times, found 1s/,
    );
  });

  it("counts seconds where all clips have times", async () => {
    await clips(at("timed"));
    for (let i = 0; i < 5; i++) await rm(at(`timed/clip${i}`), { recursive: true });
    const { positives, sources } = await findItems(at("timed"), askedPositives({ positives: "frames" })!, {});
    expect(positives).to.deep.equal({ kind: "frames", window: "1s", far: "10s" });
    expect([sources.items!.window, sources.items!.far]).to.deep.equal([1e6, 1e7]);
  });

  it("goes with each method that compares views, and says why not with the others", async () => {
    const without: Record<string, string[]> = { frames: [], pairs: [] };
    for (const dir of prebuiltFolders(GRAPHS)) {
      const { manifest } = await readArtifact(dir);
      for (const kind of ["frames", "pairs"]) {
        try {
          checkMethod(manifest, kind);
        } catch (error) {
          without[kind]!.push(manifest.method.name);
          expect((error as Error).message).to.match(/^--positives (frames|pairs): expected a method [^\n]+$/);
        }
      }
    }
    const alone = ["cpc", "jigsaw", "relative-position", "rotation"];
    expect(without.pairs!.sort()).to.deep.equal(alone);
    expect(without.frames!.sort()).to.deep.equal([...alone, "instance-discrimination", "pirl"].sort());
  });

  it("trains on videos, and goes on with what it saw in them", async function () {
    if (spawnSync("ffmpeg", ["-version"]).status !== 0) this.skip();
    await folder.write("videos/none.txt", "");
    for (const [i, name] of ["a.mp4", "b.mkv", "c.webm"].entries()) {
      const made = ["-f", "lavfi", "-i", `testsrc2=s=48x32:r=10:d=${3 + i}`, "-pix_fmt", "yuv420p"];
      const { status, stderr } = spawnSync("ffmpeg", ["-v", "error", ...made, at(`videos/${name}`)]);
      expect(status, `${stderr}`).to.equal(0);
    }
    await writeFile(at("videos/broken.mp4"), "no video");
    const begun = {
      data: at("videos"),
      out: at("seen"),
      positives: "frames",
      far: "1s",
      window: "0.5s",
    } as const;
    await train({ ...begun, graph: await tinyArtifact(at("graph")), batch: 4, steps: 3, threads: 1 });
    expect((await readConfig(at("seen"))).images).to.equal(1 + 2 + 3);
    expect((await readRecords(at("seen"))).at(-1)?.step).to.equal(3);
    const seen = JSON.parse(await readFile(at("seen/videos.json"), "utf8"));
    const file = at("videos/a.mp4");
    expect(seen[file].times).to.have.length(30);
    await train({ out: at("seen"), resume: true, extendSteps: 3 });
    // Known again by its size and time, without a look; another file is looked at.
    await writeFile(
      at("seen/videos.json"),
      JSON.stringify({ ...seen, [file]: { ...seen[file], shots: [0, 7] } }),
    );
    const { look } = await openSeen(at("seen"));
    expect((await look(file, 1000)).shots).to.deep.equal([0, 7]);
    await writeFile(file, "no video");
    expect(await failure(look(file, 1000))).to.match(/a\.mp4: expected a video that can be decoded/);
  });

  describe("a run", () => {
    const begun = () => ({
      out: at("run"),
      data: at("clips"),
      positives: "pairs" as const,
      pairs: lists.pairs,
    });
    before(async () => {
      await train({ ...begun(), graph: await tinyArtifact(at("graph")), batch: 4, steps: 2, threads: 1 });
    });

    it("keeps its source, and does not go on with another", async () => {
      const config = await readConfig(at("run"));
      expect(config.positives).to.deep.equal({ kind: "pairs", file: lists.pairs });
      expect(config.images).to.equal(5); // groups of 30 lines that share images
      const resumed = (more: object) => failure(train({ out: at("run"), resume: true, ...more }));
      expect(await resumed({ positives: "frames" })).to.match(
        /^--positives: expected "pairs", as the run began/,
      );
      expect(await resumed({ pairs: at("other.csv") })).to.match(/^--pairs: expected ".*clips-pairs\.csv"/);
      expect(await resumed({ window: "3" })).to.match(/^--window: expected none/);
    });

    it("keeps the overlap of crops", async () => {
      const out = at("overlap");
      await train({
        out,
        data: at("clips"),
        cropOverlap: 0.5,
        graph: at("graph"),
        batch: 4,
        steps: 2,
        threads: 1,
      });
      await train({ out: at("free"), data: at("clips"), graph: at("graph"), batch: 4, steps: 2, threads: 1 });
      expect((await readConfig(out)).cropOverlap).to.equal(0.5);
      const [own, free] = [await readRecords(out), await readRecords(at("free"))];
      expect(own.map(({ loss }) => loss)).not.to.deep.equal(free.map(({ loss }) => loss));
      expect(await failure(train({ out, resume: true, cropOverlap: 0.6 }))).to.match(
        /^--crop-overlap: expected 0\.5/,
      );
    });

    it("does not go on once its list pairs other images", async () => {
      const out = at("run-changed");
      const file = await folder.write("own.csv", "clip0/00.png,clip0/01.png\nclip1/00.png,clip1/01.png");
      const graph = at("graph");
      await train({ ...begun(), out, pairs: file, graph, batch: 2, steps: 1, threads: 1 });
      await folder.write("own.csv", "clip0/00.png,clip0/02.png\nclip1/00.png,clip1/01.png");
      expect(await failure(train({ out, resume: true }))).to.match(
        /clips: expected the images that the run began with/,
      );
    });

    it("shows in its report its source, and both images of an item beside its views", async () => {
      const [config, { manifest }, records] = await Promise.all([
        readConfig(at("run")),
        readArtifact(at("run")),
        readRecords(at("run")),
      ]);
      const { files } = await viewsShown({ name: at("run"), config, manifest, records }, { threads: 1 });
      const settings = settingsOf({ name: at("run"), config, manifest, records });
      expect(settings.get("positives")).to.equal(`pairs, file ${lists.pairs}`);
      expect(files).to.have.length(4);
      for (const file of files) expect(file).to.match(/^(clip\d)\/\d\d\.png \| \1\/\d\d\.png$/);
    });

    it("says what does not go with it", async () => {
      const heard = await tinyArtifact(at("heard"), { method: "audio-video", config: { seconds: 0.2 } });
      expect(await failure(train({ ...begun(), out: at("no"), graph: heard, steps: 1 }))).to.equal(
        "--positives pairs: expected a method that takes images alone, such as simclr, found audio-video; its positives are what is heard",
      );
      expect(await failure(train({ ...begun(), out: at("no"), limit: 5 }))).to.equal(
        "--limit: expected it with --positives crops, found pairs",
      );
      expect(await failure(train({ ...begun(), out: at("no"), graph: at("graph"), batch: 6 }))).to.equal(
        "batch: expected at most the number of items (5), found 6; use a smaller batch or more items",
      );
      await picture(at("lone/a.png"));
      await folder.write("lone/b.png", await plain(9, 9, "red").png().toBuffer());
      const lone = { ...begun(), out: at("no"), data: at("lone"), method: "rotation", steps: 1 };
      const file = await folder.write("lone.csv", "a.png,b.png");
      expect(
        await failure(train({ ...lone, pairs: file, encoder: "resnet20", imageSize: 16, batch: 1 })),
      ).to.match(
        /^--positives pairs: expected a method that compares views, such as simclr, found rotation; its views are all of one image$/,
      );
    });
  });
});
