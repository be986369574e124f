import { copyFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import sharp from "sharp";
import { type CheckResult, checkData, findImages, train } from "../../src/index.ts";
import { failure, plain, temporaryFolder } from "../data/folder.ts";
import { writeLinearEncoder } from "../support/linear-encoder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { texture } from "../support/textures.ts";

describe("data check", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  let found: CheckResult;

  before(async () => {
    for (const name of ["cat", "dog"]) await folder.write(`photos/${name}/broken.jpg`, "no image");
    await folder.write("photos/dog/cut.png", (await (await texture(90)).png().toBuffer()).subarray(0, 900));
    for (let i = 0; i < 12; i++) await (await texture(i)).toFile(at(`photos/cat/${i}.png`));
    await copyFile(at("photos/cat/1.png"), at("photos/cat/again.png"));
    await sharp(at("photos/cat/2.png")).webp({ lossless: true }).toFile(at("photos/dog/same pixels.webp"));
    await sharp(at("photos/cat/3.png")).resize(144, 120).jpeg().toFile(at("photos/dog/larger.jpg"));
    await plain(60, 60, "white")
      .composite([{ input: await plain(40, 8, "black").png().toBuffer(), left: 10, top: 20 }])
      .toFile(at("photos/dog/flat.png"));
    await (await texture(20)).grayscale().toFile(at("photos/dog/grey.jpg"));
    await (await texture(21)).resize(20, 17).toFile(at("photos/dog/small.png"));
    const files = { out: at("page.html"), writeList: at("keep.txt") };
    found = await checkData(at("photos"), files);
  });

  it("tells what is broken and why, and what is twice there", () => {
    expect(found.images).to.equal(21);
    const why = (text: string) => `expected an image that can be decoded, found ${text}`;
    const none = why("none of JPEG, PNG, WebP, AVIF, TIFF and GIF");
    expect(found.broken.map(({ file }) => file)).to.deep.equal([
      "cat/broken.jpg",
      "dog/broken.jpg",
      "dog/cut.png",
    ]);
    expect(found.broken.slice(0, 2).map((one) => one.why)).to.deep.equal([none, none]);
    expect(found.broken[2]!.why).to.match(/^expected an image that can be decoded, found ./);
    expect(found.duplicates).to.deep.equal([
      { files: ["cat/1.png", "cat/again.png"], by: "bytes", likeness: 1, acrossFolders: false },
      { files: ["cat/2.png", "dog/same pixels.webp"], by: "pixels", likeness: 1, acrossFolders: true },
    ]);
    const [near, ...others] = found.near;
    expect(others).to.deep.equal([]);
    expect(near).to.deep.include({
      files: ["dog/larger.jpg", "cat/3.png"],
      by: "thumbnails",
      acrossFolders: true,
    });
    expect(near!.likeness).to.be.within(0.94, 1);
  });

  it("tells what is flat, grey or small, and how sizes and folders are distributed", () => {
    const { flat, grey, small, smallBelow, shorterSide, aspect, folders } = found;
    expect({ flat, grey, small, smallBelow }).to.deep.equal({
      flat: ["dog/flat.png"],
      grey: ["dog/flat.png", "dog/grey.jpg"],
      small: ["dog/small.png"],
      smallBelow: 30,
    });
    expect(shorterSide).to.deep.include({ least: 17, median: 60, greatest: 120 });
    expect(shorterSide).to.deep.include({ leastFile: "dog/small.png", greatestFile: "dog/larger.jpg" });
    expect(aspect).to.deep.include({ least: 1, median: 1.2, greatest: 1.2 });
    expect(folders).to.deep.equal([
      { name: "cat", images: 14 },
      { name: "dog", images: 7 },
    ]);
  });

  it("lists the images to keep, the largest of copies, as training reads them", async () => {
    const { root, files } = await findImages(at("keep.txt"));
    expect(root).to.equal(at("photos"));
    expect(files).to.have.length(found.kept).and.include("dog/larger.jpg").and.include("dog/flat.png");
    for (const file of ["cat/broken.jpg", "cat/again.png", "dog/same pixels.webp", "cat/3.png"])
      expect(files).not.to.include(file);
    const drop = ["flat", "grey", "small"] as const;
    const stricter = await checkData(at("photos"), { writeList: at("keep.txt"), drop }); // over its own list
    expect(stricter.kept).to.equal(21 - 3);
    expect((await findImages(at("keep.txt"))).files).not.to.include("dog/small.png");
  });

  it("shows it as a page", async () => {
    const page = await readFile(at("page.html"), "utf8");
    for (const id of ["broken", "folders", "across", "near", "duplicates", "flat", "grey", "small"])
      expect(page).to.include(`<section id="${id}">`);
    expect(page).to.include("dog/cut.png").and.include("data:image/webp;base64,");
  });

  it("finds near duplicates by an encoder's features as well", async () => {
    const data = await pictures(at("hues"), 6); // of three hues, with noise of their own
    expect((await checkData(data)).near).to.deep.equal([]);
    const encoder = at("encoder.onnx");
    const means = Float32Array.from({ length: 3 * 64 * 3 }, (_, i) =>
      Math.floor(i / 3 / 64) === i % 3 ? 1 / 64 : 0,
    );
    await writeLinearEncoder(encoder, 8, means); // of each channel
    const { near } = await checkData(data, { encoder, nearFeatures: 0.99, threads: 1 });
    expect(near.map(({ files, by }) => ({ files, by }))).to.deep.equal(
      [0, 1, 2].map((hue) => ({ files: [`0${hue}.png`, `0${hue + 3}.png`], by: "features" })),
    );
  });

  it("writes over no other file, and takes no likeness that is none", async () => {
    const notes = await folder.write("notes.txt", "mine");
    const check = (options: Parameters<typeof checkData>[1]) => failure(checkData(at("photos"), options));
    expect(await check({ writeList: notes })).to.match(
      /notes\.txt: expected a list or no file, found another/,
    );
    expect(await check({ out: notes })).to.match(/notes\.txt: expected a report or no file, found another/);
    expect(await check({ writeList: at("keep.csv") })).to.match(
      /--write-list: expected a file that ends in \.txt/,
    );
    expect(await check({ near: 2 })).to.match(/--near: expected a number above 0, of 1 at most, found 2/);
    expect(await check({ nearFeatures: 0.9 })).to.match(/--near-features: expected it with --encoder/);
    expect(await readFile(notes, "utf8")).to.equal("mine");
  });

  it("'s list is what a run trains on, that was stopped and goes on with the same bytes", async () => {
    const data = at("run.txt");
    const keep = (await readFile(at("keep.txt"), "utf8")).split("\n").filter((line) => /cat\/\d/.test(line));
    await writeFile(data, keep.join("\n"));
    const graph = await tinyArtifact(at("graph"));
    const options = { data, graph, batch: 4, steps: 4, threads: 1, rank: false };
    const whole = await train({ ...options, out: at("whole") });
    const stop = new AbortController();
    let steps = 0;
    const checkpointAsked = () => {
      if (++steps === 2) stop.abort();
      return false;
    };
    await train({ ...options, out: at("stopped") }, { signal: stop.signal, checkpointAsked });
    const again = await train({ out: at("stopped"), resume: true });
    const config = JSON.parse(await readFile(join(again.run, "config.json"), "utf8"));
    expect(config).to.deep.include({ data, images: keep.length });
    expect(await readFile(again.encoder!)).to.deep.equal(await readFile(whole.encoder!));
    await writeFile(data, keep.slice(1).join("\n"));
    expect(await failure(train({ out: at("stopped"), resume: true }))).to.match(
      /run\.txt: expected the \d+ images that the run began with, found \d+/,
    );
  });
});
