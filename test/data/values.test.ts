import { expect } from "chai";
import sharp from "sharp";
import { decodeSource, decodeSquare } from "../../src/data/decode.ts";
import type { ValueRange } from "../../src/data/values.ts";
import { failure, plain, temporaryFolder } from "./folder.ts";
import { type TiffOptions, tiff } from "./tiff.ts";

describe("data/values", () => {
  const folder = temporaryFolder();
  const size = { width: 6, height: 4 };
  /** The first pixel, and the notes. */
  async function read(path: string, range?: ValueRange, side = 64) {
    const notes: string[] = [];
    const { pixels, width, height } = await decodeSource(path, side, {
      range,
      note: (kind, line) => notes.push(`${kind}: ${line}`),
    });
    expect(pixels).to.have.length(width * height * 3);
    return { pixel: [...pixels.subarray(0, 3)], notes };
  }
  const save = (options: Omit<TiffOptions, "width" | "height">, bandsOf: readonly number[]) =>
    folder.write(
      "a.tif",
      tiff({ ...size, ...options }, (band) => bandsOf[band]!),
    );

  /** Uneven values of 16 bits, [n, channels]. */
  const values = (n: number, channels: number, most = 65535) =>
    Uint16Array.from({ length: n * channels }, (_, i) => (i * 7919) % (most + 1));
  const png16 = (channels: 1 | 2 | 3 | 4, most?: number) => {
    const raw = { width: 40, height: 30, channels };
    const space = channels < 3 ? "grey16" : "rgb16";
    return sharp(values(40 * 30, channels, most), { raw })
      .toColourspace(space)
      .png()
      .toBuffer();
  };

  describe("16 bits", () => {
    for (const channels of [1, 3] as const) {
      it(`give the upper 8, as sRGB viewers do, of ${channels} channels`, async () => {
        const path = await folder.write("full.png", await png16(channels));
        expect((await sharp(path).metadata()).depth).to.equal("ushort");
        for (const side of [64, 16]) {
          const image = sharp(path).resize(side, side, {
            fit: "outside",
            withoutEnlargement: true,
            kernel: "linear",
          });
          const { pixels } = await decodeSource(path, side);
          expect(pixels).to.deep.equal(new Uint8Array(await image.toColourspace("srgb").raw().toBuffer()));
        }
      });
    }

    it("are scaled linearly by a range, and cut off beyond it", async () => {
      const path = await folder.write("range.png", await png16(3));
      const [low, high] = [1000, 50_000];
      const { pixels } = await decodeSource(path, 64, { range: [low, high] });
      const naive = Array.from(values(40 * 30, 3), (value) =>
        Math.max(0, Math.min(255, Math.floor((((value - low) / (high - low)) * 65535) / 256))),
      );
      expect([...pixels]).to.deep.equal(naive);
      expect(await decodeSource(path, 64, { range: [0, 65535] })).to.deep.equal(await decodeSource(path, 64));
    });

    it("of 12 come out as they are by a range, and with a note without one", async () => {
      for (const channels of [1, 2, 3, 4] as const) {
        const path = await folder.write("twelve.png", await png16(channels, 4095));
        const { pixel, notes } = await read(path);
        if (channels % 2 === 1) expect(Math.max(...pixel)).to.be.below(16);
        const end = Math.max(
          ...values(40 * 30, channels, 4095).filter((_, i) => channels % 2 || (i + 1) % channels),
        );
        expect(notes).to.deep.equal([
          `dark: ${path}: 16-bit values end at ${end}, where 65535 is white; if others end there too, give --range 0,4095`,
        ]);
        expect((await read(path, [0, 4095])).notes).to.deep.equal([]);
      }
      expect(
        (await read(await save({ bands: 3, bits: 16 }, [4095, 2048, 0]), [0, 4095])).pixel,
      ).to.deep.equal([255, 128, 0]);
    });

    it("are not called dark for averages of single bright pixels", async () => {
      const dots = (_: number, pixel: number) => (pixel % 64 === 0 ? 60_000 : 100);
      const path = await folder.write("dots.tif", tiff({ width: 64, height: 64, bands: 1, bits: 16 }, dots));
      expect((await read(path, undefined, 4)).notes).to.deep.equal([]);
      expect((await read(await save({ bands: 1, bits: 16 }, [0]))).notes).to.deep.equal([]); // all black says nothing
    });

    it("with transparency lie on the mean color, by a range too", async () => {
      const options = { bands: 4, bits: 16, extra: [2] } as const;
      const path = await save(options, [4095, 0, 4095, 16384]); // a quarter
      expect((await read(path, [0, 4095])).pixel).to.deep.equal([157, 87, 142]);
      const gray = await save({ bands: 2, bits: 16, extra: [2] }, [4095, 16384]);
      expect((await read(gray, [0, 4095])).pixel).to.deep.equal([157, 151, 142]);
    });

    it("of which the least is white, by the values in the file", async () => {
      const path = await save({ bands: 1, bits: 16, photometric: 0 }, [4095]);
      const { pixel, notes } = await read(path);
      expect(pixel).to.deep.equal([240, 240, 240]);
      expect(notes[0]).to.match(/end at 4095, where 65535 is black; .* --range 0,4095$/);
      expect((await read(path, [0, 4095])).pixel).to.deep.equal([0, 0, 0]);
      expect((await read(path, [4095, 8000])).pixel).to.deep.equal([255, 255, 255]);
    });
  });

  describe("other values", () => {
    const kinds: [
      options: Omit<TiffOptions, "width" | "height">,
      bands: number[],
      range: ValueRange,
      pixel: number[],
    ][] = [
      [{ bands: 1, bits: 32, values: "float" }, [0.5], [0, 1], [127, 127, 127]],
      [{ bands: 3, bits: 32, values: "float" }, [-1, 0, 7], [-2, 2], [63, 127, 255]],
      [{ bands: 1, bits: 32, values: "float", photometric: 0 }, [0.75], [0, 1], [63, 63, 63]],
      [{ bands: 1, bits: 16, values: "signed" }, [-500], [-1000, 1000], [63, 63, 63]],
      [{ bands: 3, bits: 16, values: "signed" }, [-500, 0, 500], [-1000, 1000], [63, 127, 191]],
      [{ bands: 1, bits: 32 }, [750_000], [0, 1_000_000], [191, 191, 191]],
      [{ bands: 3, bits: 32 }, [0, 250_000, 5_000_000], [0, 1_000_000], [0, 63, 255]],
      [{ bands: 3, bits: 32, values: "signed" }, [-90_000, 0, 90_000], [-100_000, 100_000], [12, 127, 243]],
    ];
    for (const [options, bandsOf, range, pixel] of kinds) {
      const name = `${options.bands} bands of ${options.bits} bits, ${options.values ?? "unsigned"}, ${options.photometric ?? ""}`;
      it(`need a range: ${name}`, async () => {
        const path = await save(options, bandsOf);
        const { message, kind } = await decodeSource(path, 64).catch((error) => error);
        const sign = options.values ? `${options.values} ` : "";
        expect(kind).to.equal(`${options.bits}-bit ${sign}values`);
        expect(message).to.equal(
          `${path}: expected 8-bit or 16-bit values without a sign, found ${kind} of about ${Math.min(...bandsOf)} to ` +
            `${Math.max(...bandsOf)}; give the values of black and white with --range low,high`,
        );
        expect(await read(path, range)).to.deep.equal({ pixel, notes: [] });
        const square = await decodeSquare(path, 3, { range });
        expect([...square.pixels]).to.deep.equal(Array(9).fill(pixel).flat());
      });
    }

    it("that are no numbers are black", async () => {
      const path = await save({ bands: 1, bits: 32, values: "float" }, [Number.NaN]);
      expect((await read(path, [-1, 1])).pixel).to.deep.equal([0, 0, 0]);
      expect(await failure(decodeSource(path, 64))).to.match(/found 32-bit float values; give/);
    });

    it("that libvips does not read are refused as such", async () => {
      const path = await save({ bands: 1, bits: 64, values: "float" }, [1]);
      expect(await failure(decodeSource(path, 64, { range: [0, 1] }))).to.equal(
        `${path}: expected an image that can be decoded, found 64-bit float values; save 16-bit values or 32-bit floats`,
      );
    });
  });

  describe("bands", () => {
    const rgb = [200, 100, 50];
    const note = (path: string, bands: number, taken: string) => [
      `${bands} bands: ${path}: ${bands} bands, and the file does not say what each is; the first ${taken}`,
    ];
    const cases: [options: Omit<TiffOptions, "width" | "height" | "bits">, bandsOf: number[]][] = [
      [{ bands: 4, extra: [0] }, [...rgb, 30]],
      [{ bands: 4 }, [...rgb, 30]],
      [{ bands: 5, extra: [0, 0] }, [...rgb, 30, 10]],
      [{ bands: 5, extra: [0, 2] }, [...rgb, 30, 10]],
      [{ bands: 3, photometric: 1, extra: [0, 0] }, rgb],
      [{ bands: 13, photometric: 1 }, [...rgb, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
    ];
    for (const [options, bandsOf] of cases) {
      for (const bits of [8, 16, 32] as const) {
        it(`${bits} bits, ${JSON.stringify(options)}: the first three are color, with a note`, async () => {
          const range = bits === 32 ? ([0, 65535] as const) : undefined;
          const path = await save(
            { ...options, bits },
            bandsOf.map((value) => (bits === 8 ? value : value * 257)),
          );
          const wanted = note(path, options.bands, "three are taken as red, green and blue");
          for (const side of [64, 2])
            expect(await read(path, range, side)).to.deep.equal({ pixel: rgb, notes: wanted });
        });
      }
    }

    it("two, and the second is not transparency: the first is gray", async () => {
      const path = await save({ bands: 2, bits: 8, extra: [0] }, [200, 100]);
      const notes = note(path, 2, "is taken as gray");
      expect(await read(path)).to.deep.equal({ pixel: [200, 200, 200], notes });
    });

    it("of transparency stay that", async () => {
      const color = await save({ bands: 4, bits: 8, extra: [2] }, [0, 0, 0, 64]);
      expect(await read(color)).to.deep.equal({ pixel: [92, 86, 77], notes: [] });
      const gray = await save({ bands: 2, bits: 8, extra: [2] }, [0, 64]);
      expect((await read(gray)).notes).to.deep.equal([]);
    });

    it("are found in files of either byte order, in BigTIFF, and behind the pixels of a large file", async () => {
      for (const order of ["II", "MM"] as const) {
        for (const big of [false, true]) {
          for (const side of [6, 200]) {
            const options = { width: side, height: side, bands: 4, bits: 16, order, big } as const;
            const path = await folder.write(
              "b.tif",
              tiff(options, (band) => [...rgb, 30][band]! * 257),
            );
            const { pixel, notes } = await read(path, undefined, 4);
            expect({ pixel, notes: notes.length }).to.deep.equal({ pixel: rgb, notes: 1 });
          }
        }
      }
    });
  });

  it("leaves a header that is broken to libvips, which says so", async () => {
    const whole = tiff({ ...size, bands: 4, bits: 16 }, () => 1);
    const folderAt = whole.readUInt32LE(4);
    for (const spoil of [
      (bytes: Buffer) => bytes.writeUInt32LE(2 ** 31, 4), // beyond the end
      (bytes: Buffer) => bytes.writeUInt16LE(65535, folderAt), // entries
      (bytes: Buffer) => bytes.writeUInt32LE(0, 4),
    ]) {
      const bytes = Buffer.from(whole);
      spoil(bytes);
      const path = await folder.write("broken.tif", bytes);
      expect(await failure(decodeSource(path, 64))).to.match(
        /broken\.tif: expected an image that can be decoded, found /,
      );
    }
  });

  it("leaves 8-bit pictures as they are: palette, 1 bit, gray, CMYK", async () => {
    const orange = plain(8, 8, { r: 220, g: 120, b: 40 });
    const images = {
      "palette.png": orange.clone().png({ palette: true }),
      "bilevel.tif": orange
        .clone()
        .threshold(100)
        .toColourspace("b-w")
        .tiff({ bitdepth: 1, compression: "none" }),
      "gray.tif": orange.clone().toColourspace("b-w").tiff(),
      "cmyk.tif": orange.clone().toColourspace("cmyk").tiff(),
      "jpeg.tif": orange.clone().tiff({ compression: "jpeg" }),
    };
    for (const [name, image] of Object.entries(images)) {
      const path = await folder.write(name, await image.toBuffer());
      const { pixels } = await decodeSource(path, 64, {
        range: [0, 10],
        note: (_, line) => expect.fail(line),
      });
      const usual = await sharp(path).toColourspace("srgb").raw().toBuffer();
      expect(pixels, name).to.deep.equal(new Uint8Array(usual));
    }
  });
});
