import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import { expect } from "chai";
import { compile } from "../../src/artifact/compile.ts";
import { findAudioPairs } from "../../src/data/audio-pairs.ts";
import { findObjects } from "../../src/data/objects/objects.ts";
import { findImages, type Sources } from "../../src/data/sources.ts";
import { UserError } from "../../src/errors.ts";
import type { Manifest } from "../../src/spec.ts";
import { type Fed, type Feed, type FeedOptions, openFeed } from "../../src/train/feed.ts";
import { openFeedBeside } from "../../src/train/feed-beside.ts";
import { drawTargets } from "../../src/train/targets.ts";
import { failure, plain, temporaryFolder } from "../data/folder.ts";
import { shapes } from "../support/shapes.ts";
import { toneWav } from "../support/wav.ts";

const { manifest } = compile({ method: "moco", encoder: "resnet20", imageSize: 16 });

describe("train/feed", () => {
  const folder = temporaryFolder();
  const [small, heard] = [temporaryFolder(), temporaryFolder()];
  let sources: Sources; // 12 images, 3 and 7 broken; JPEGs of up to 96 px are not decoded by sharp, others are
  let warnings: string[] = [];
  const options: FeedOptions = {
    manifest: manifest as Manifest,
    batch: 4,
    seed: 1,
    shorterSide: 100,
    cacheBytes: 1e9,
    steps: 9,
    warn: (line) => void warnings.push(line),
  };
  before(async () => {
    for (let i = 0; i < 12; i++) {
      const image = await plain(40 + 8 * i, 100 - i, { r: 20 * i, g: 7, b: 9 })
        .jpeg()
        .toBuffer();
      const broken = i === 3 || i === 7;
      await folder.write(`${String(i).padStart(2, "0")}.jpg`, broken ? image.subarray(0, 60) : image);
    }
    sources = await findImages(folder.path);
  });
  beforeEach(() => {
    warnings = [];
  });

  async function take(feed: Feed, count: number): Promise<Fed[]> {
    const all: Fed[] = [];
    for (let i = 0; i < count; i++) all.push(await feed.next());
    await feed.close();
    return all;
  }

  it("gives the same beside this thread: batches, draws, warnings, from any step", async () => {
    const here = await take(openFeed(sources, options), 9);
    const [said, broken] = [
      warnings.toSorted(),
      ["03.jpg", "07.jpg"].map((name) => `${folder.path}/${name}`),
    ];
    expect(said.map((line) => line.slice(0, line.indexOf(":")))).to.deep.equal(broken);
    expect(here[0]!.permutations).to.have.length.above(0);
    warnings = [];
    const feed = await openFeedBeside(sources, options);
    expect(feed.stepsPerEpoch).to.equal(3);
    expect(await take(feed, 9)).to.deep.equal(here);
    expect(warnings.toSorted()).to.deep.equal(said);
    const changed = { ...options, startStep: 4, cacheBytes: 0, ahead: 0 };
    expect(await take(await openFeedBeside(sources, changed), 5)).to.deep.equal(here.slice(4));
  });

  it("gives each image's classes, one or several, the same beside this thread", async () => {
    const of = (config: object) =>
      compile({ method: "finetune", encoder: "resnet20", imageSize: 16, config: { classes: 3, ...config } });
    const labels = Int32Array.from(sources.files, (_, i) => i % 3);
    const labelSets = sources.files.map((_, i) => [0, 1, 2].filter((place) => (i >> place) % 2 === 1));
    const named = { ...sources, classes: ["a", "b", "c"] };
    type Open = (sources: Sources, options: FeedOptions) => Feed | Promise<Feed>;
    const take3 = async (sources: Sources, config: object, open: Open = openFeed) =>
      take(await open(sources, { ...options, manifest: of(config).manifest as Manifest }), 3);
    for (const fed of await take3({ ...named, labels }, {}))
      expect(fed.labels).to.deep.equal(BigInt64Array.from(fed.indices, (i) => BigInt(i % 3)));
    const several = { ...named, labels: new Int32Array(0), labelSets };
    const here = await take3(several, { independent: true });
    for (const fed of here)
      expect(fed.labels).to.deep.equal(
        Float32Array.from(fed.indices.flatMap((i) => [0, 1, 2].map((place) => (i >> place) % 2))),
      );
    expect(await take3(several, { independent: true }, openFeedBeside)).to.deep.equal(here);
  });

  it("gives parts of audio too, the same beside this thread", async () => {
    const audio = compile({
      method: "audio-video",
      encoder: "resnet20",
      imageSize: 16,
      config: { seconds: 0.1 },
    });
    const whole = { ...options, manifest: audio.manifest as Manifest, shorterSide: 32, batch: 2, steps: 4 };
    for (let i = 0; i < 4; i++) {
      await plain(20, 20, { r: 20 * i, g: 7, b: 9 }).toFile(await heard.write(`${i}.png`, ""));
      await heard.write(`${i}.wav`, toneWav(200 + 100 * i, 0.05 + 0.05 * i, 8000));
    }
    const pairs = await findAudioPairs(heard.path);
    const here = await take(openFeed(pairs, whole), 4);
    for (const { audio: parts } of here) {
      expect(parts).to.have.length(2 * 1600);
      expect(parts!.some((x) => x !== 0)).to.equal(true);
    }
    expect(here[2]!.audio, "another epoch").not.to.deep.equal(here[0]!.audio);
    expect(await take(await openFeedBeside(pairs, whole), 4)).to.deep.equal(here);
    expect(warnings).to.deep.equal([]);
  });

  it("gives what is to be found in views of objects, the same beside this thread", async () => {
    const { data } = await shapes(join(heard.path, "shapes"), { form: "yolo", images: 6 });
    const objects = await findObjects(data);
    const detection = {
      ...{ classes: "classes", distances: "distances", view: 0, radius: 1.5 },
      levels: [
        { side: 8, stride: 2, from: 0, to: 8 },
        { side: 4, stride: 4, from: 8, to: null },
      ],
    };
    const found = { ...(manifest as Manifest), detection };
    const whole = { ...options, manifest: found, batch: 3, steps: 4 };
    const here = await take(openFeed(objects, whole), 4);
    for (const { images, height, width, detection, ...fed } of here) {
      expect(fed).not.to.have.any.keys("contents", "sizes");
      expect([height, width, images.length / 9]).to.deep.equal([height, height, height ** 2]);
      expect(detection!.classes).to.have.length(3 * 80);
      expect(detection!.distances).to.have.length(3 * 80 * 4);
      expect(detection!.classes.some((own) => own >= 0n)).to.equal(true);
    }
    const contents = here[0]!.indices.map((index) => {
      const { width, height } = objects.objects![index]!;
      const scale = Math.min(1, options.shorterSide / Math.max(width, height));
      return { width: Math.round(width * scale), height: Math.round(height * scale) };
    });
    const own = here[0]!.indices.map((index) => objects.objects![index]!);
    const wanted = drawTargets(detection, 16, here[0]!.views[0]!, contents, own);
    expect(here[0]!.detection).to.deep.equal(wanted);
    expect(await take(await openFeedBeside(objects, whole), 4)).to.deep.equal(here);
    expect(warnings).to.deep.equal([]);
  });

  it("prepares batches while this thread is held up, no more than so many ahead", async () => {
    for (let i = 0; i < 8; i++) {
      const image = await plain(16, 16, { r: 20 * i, g: 7, b: 9 })
        .jpeg()
        .toBuffer();
      await small.write(`${i}.jpg`, image);
    }
    const started = new Promise<Worker>((resolve) => process.once("worker", resolve));
    const uncached = { ...options, batch: 2, cacheBytes: 0, ahead: 1 };
    const feed = await openFeedBeside(await findImages(small.path), uncached);
    const { performance } = await started;
    await Promise.all([feed.next(), feed.next()]); // by the second answer a third batch is asked for
    const nothing = new Int32Array(new SharedArrayBuffer(4));
    // Holds this thread up until the other has nothing left to do.
    for (let busy = 1; busy > 0.1; ) {
      const before = performance.eventLoopUtilization();
      Atomics.wait(nothing, 0, 0, 20);
      busy = performance.eventLoopUtilization(performance.eventLoopUtilization(), before).utilization;
    }
    rmSync(small.path, { recursive: true });
    expect((await feed.next()).step).to.equal(2);
    expect(warnings).to.deep.equal([]);
    expect(await failure(feed.next())).to.match(/found none among 8/);
    expect(warnings).to.have.length(8);
    await feed.close();
  });

  it("throws on this thread what it throws there", async () => {
    const opening = openFeedBeside(sources, { ...options, batch: 13 }).catch((error) => error);
    expect(await opening)
      .to.be.instanceOf(UserError)
      .and.include({
        exitCode: 2,
        message: `batch: expected at most the number of images (12 in ${folder.path}), found 13; use a smaller batch or more images`,
      });
    const none = { ...sources, files: ["03.jpg", "07.jpg"] };
    const feed = await openFeedBeside(none, { ...options, batch: 2 });
    for (let i = 0; i < 2; i++) {
      const error = await feed.next().catch((error) => error);
      expect(error).to.be.instanceOf(UserError);
      expect(error.message).to.match(/expected an image that can be decoded, found none among 2/);
    }
    await feed.close();
    const faulty = { ...options, manifest: { ...manifest, views: [{}] } as unknown as Manifest };
    const broken = await openFeedBeside(sources, faulty);
    expect(await broken.next().catch((error) => error)).to.be.instanceOf(TypeError);
    await broken.close();
  });

  it("closes while it is at work, and then gives no more", async () => {
    const feed = await openFeedBeside(sources, options);
    const pending = [feed.next(), feed.next(), feed.next(), feed.next()].map((next) => next.catch(String));
    await feed.close();
    for (const said of await Promise.all(pending)) {
      if (typeof said === "string") expect(said).to.equal("Error: the loader is closed");
    }
    expect(await failure(feed.next())).to.equal("the loader is closed");
  });
});
