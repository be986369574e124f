import { expect } from "chai";
import sharp, { type JpegOptions, type Sharp } from "sharp";
import { decodeSmallJpeg } from "../../src/data/small-jpeg.ts";
import { noise, plain } from "./folder.ts";

describe("data/small-jpeg", () => {
  const any = () => true;
  const decode = (file: Uint8Array) => decodeSmallJpeg(file, any);
  const sizes: [number, number][] = [
    [1, 1],
    [32, 32],
    [31, 27],
    [9, 90],
    [96, 96],
  ];
  const ways: Record<string, JpegOptions> = {
    baseline: {},
    progressive: { progressive: true },
    "all colors kept": { chromaSubsampling: "4:4:4", quality: 95 },
    "tables of its own": { optimizeCoding: true, quality: 30 },
  };
  for (const [name, options] of Object.entries(ways)) {
    for (const [width, height] of sizes) {
      it(`gives sharp's bytes: ${name}, ${width} x ${height}`, async () => {
        const file = await noise(width, height).jpeg(options).toBuffer();
        const source = await decode(file);
        expect(source).to.include({ width, height });
        expect(source!.pixels).to.deep.equal(new Uint8Array(await sharp(file).raw().toBuffer()));
      });
    }
  }

  it("gives sharp's bytes: gray, as color", async () => {
    const file = await noise(20, 30).toColourspace("b-w").jpeg().toBuffer();
    expect((await sharp(file).metadata()).channels).to.equal(1);
    const source = await decode(file);
    expect(source!.pixels).to.deep.equal(
      new Uint8Array(await sharp(file).toColourspace("srgb").raw().toBuffer()),
    );
  });

  it("gives arrays of their own", async () => {
    const files = await Promise.all([1, 2].map(() => noise(8, 8).jpeg().toBuffer()));
    const first = await decode(files[0]!);
    const copy = first!.pixels.slice();
    await decode(files[1]!);
    expect(first!.pixels).to.deep.equal(copy);
  });

  it("asks whether the size is wanted", async () => {
    const file = await plain(20, 10, "red").jpeg().toBuffer();
    expect(await decodeSmallJpeg(file, (width, height) => width === 20 && height === 10)).not.to.equal(
      undefined,
    );
    expect(await decodeSmallJpeg(file, (width) => width === 10)).to.equal(undefined);
  });

  describe("leaves to sharp", () => {
    const leaves = (name: string, file: () => Promise<Uint8Array>) =>
      it(name, async () => expect(await decode(await file())).to.equal(undefined));
    const saved = (image: Sharp) => () => image.toBuffer();
    const jpeg = () => noise(32, 32).jpeg().toBuffer();

    leaves("an orientation", saved(plain(8, 4, "red").jpeg().withMetadata({ orientation: 6 })));
    leaves("a profile", saved(plain(8, 8, "red").withIccProfile("p3").jpeg()));
    leaves("CMYK", saved(plain(8, 8, "red").toColourspace("cmyk").jpeg()));
    leaves("more pixels", saved(plain(97, 96, "red").jpeg()));
    leaves("another format", saved(plain(8, 8, "red").png()));
    leaves("nothing", async () => new Uint8Array(0));
    leaves("a file that is cut off", async () => (await jpeg()).subarray(0, -2));
    leaves("a header that is cut off", async () => (await jpeg()).subarray(0, 160));
    leaves("a marker among the pixels", async () => {
      const file = await jpeg();
      file.writeUInt16BE(0xffd3, file.length - 300); // a restart that no one asked for
      return file;
    });
    leaves("a height that comes later", async () => {
      const file = await jpeg();
      const frame = file.indexOf(Uint8Array.of(0xff, 0xc0));
      file.writeUInt16BE(0, frame + 5);
      return file;
    });
  });

  it("still decodes after 5000 files that are broken", async () => {
    const file = await plain(8, 8, "red").jpeg().toBuffer();
    const cut = file.subarray(0, -2);
    for (let i = 0; i < 5000; i++) expect(await decode(cut)).to.equal(undefined);
    expect(await decode(file)).not.to.equal(undefined);
  });
});
