import { crc32, deflateSync } from "node:zlib";
import { expect } from "chai";
import sharp from "sharp";
import { decodePlane } from "../../src/data/png.ts";
import { randomFor } from "../../src/random.ts";
import { failure, noise, temporaryFolder } from "./folder.ts";

/** As Pillow writes them: palettes of 1, 2 and 4 bits, and gray. */
const PILLOW = {
  p1: "iVBORw0KGgoAAAANSUhEUgAAAAUAAAADAQMAAABh+Fe7AAAABlBMVEUA/wAB/gd6mk3kAAAADklEQVR4nGMoYHjB8AMABeYCUcHLcU0AAAAASUVORK5CYII=",
  p2: "iVBORw0KGgoAAAANSUhEUgAAAAUAAAADAgMAAAAmWC1rAAAADFBMVEUA/wAB/gcC/Q4D/BXdzj5eAAAAEUlEQVR4nGOQZmB44sAQdgAAB8ECVl+YIQYAAAAASUVORK5CYII=",
  p4: "iVBORw0KGgoAAAANSUhEUgAAAAUAAAADBAMAAACpGNjLAAAAMFBMVEUA/wAB/gcC/Q4D/BUE+xwF+iMG+SoH+DEI9zgJ9j8K9UYL9E0M81QN8lsO8WIP8GnQckQ0AAAAFElEQVR4nGNgVGZgMBIQYBRklAMAA9oAqPwQnMYAAAAASUVORK5CYII=",
  l8: "iVBORw0KGgoAAAANSUhEUgAAAAUAAAADCAAAAAB+XZokAAAAGUlEQVR4nAXBgQEAAATAoMb/N1M0y06uqAcHrwEQWTKtDAAAAABJRU5ErkJggg==",
};
const VALUES = [0, 1, 2, 3, 0, 3, 2, 1, 0, 255, 1, 1, 1, 2, 3];

interface Parts {
  readonly bits?: number;
  readonly type?: number;
  readonly interlace?: number;
}

/** A PNG whose lines, each after the byte of its filter, are these. */
function png(
  width: number,
  height: number,
  lines: Uint8Array,
  { bits = 8, type = 3, interlace = 0 }: Parts = {},
) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([bits, type, 0, 0, interlace], 8);
  const chunk = (name: string, data: Uint8Array) => {
    const body = Buffer.concat([Buffer.from(name, "latin1"), data]);
    const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    check.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, check]);
  };
  const packed = deflateSync(lines);
  const half = packed.length >> 1;
  const chunks = [
    chunk("IHDR", header),
    chunk("PLTE", Buffer.alloc(3 * 256, 7)),
    chunk("IDAT", packed.subarray(0, half)),
    chunk("IDAT", packed.subarray(half)),
    chunk("IEND", Buffer.alloc(0)),
  ];
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...chunks]);
}

describe("data/png", () => {
  const folder = temporaryFolder();

  it("gives the values of palettes and of gray as they are stored, of fewer bits too", async () => {
    for (const [name, base64] of Object.entries(PILLOW)) {
      const path = await folder.write(`${name}.png`, Buffer.from(base64, "base64"));
      const most = { p1: 1, p2: 3, p4: 15, l8: 255 }[name]!;
      const wanted = VALUES.map((value) => Math.min(name === "l8" || value < 255 ? value : 1, most));
      const { width, height, values } = await decodePlane(path);
      expect([width, height, [...values]], name).to.deep.equal([5, 3, wanted]);
    }
    const gray = Uint8Array.from({ length: 40 * 30 }, (_, i) => (i % 40) * 3 + (i % 7) + Math.floor(i / 40));
    const path = `${folder.path}/gray.png`;
    const raw = { raw: { width: 40, height: 30, channels: 1 } } as const;
    await sharp(gray, raw).toColourspace("b-w").png({ adaptiveFiltering: true }).toFile(path);
    expect((await decodePlane(path)).values).to.deep.equal(gray);
  });

  it("takes each filter back", async () => {
    const [width, height] = [7, 10];
    const random = randomFor("png");
    const values = Uint8Array.from({ length: width * height }, () => random.integer(256));
    const at = (y: number, x: number) => (x < 0 || y < 0 ? 0 : values[y * width + x]!);
    const lines = Array.from({ length: height }, (_, y) => {
      const filtered = Array.from({ length: width }, (_, x) => {
        const [a, b, c] = [at(y, x - 1), at(y - 1, x), at(y - 1, x - 1)];
        const nearest = [a, b, c].sort((p, q) => Math.abs(a + b - c - p) - Math.abs(a + b - c - q))[0]!;
        return at(y, x) - [0, a, b, Math.floor((a + b) / 2), nearest][y % 5]!;
      });
      return [y % 5, ...filtered];
    });
    const path = await folder.write("filters.png", png(width, height, Uint8Array.from(lines.flat())));
    expect((await decodePlane(path)).values).to.deep.equal(values);
  });

  it("refuses colours, other files and broken ones, in one line", async () => {
    const lines = new Uint8Array(2 * 3);
    const whole = png(2, 2, lines);
    const files: readonly (readonly [string, Uint8Array, RegExp])[] = [
      ["rgb", png(2, 2, lines, { type: 2 }), /found RGB$/],
      ["rgba", png(2, 2, lines, { type: 6 }), /found RGB with transparency$/],
      ["gray-alpha", png(2, 2, lines, { type: 4 }), /found gray with transparency$/],
      ["deep", png(2, 2, lines, { type: 0, bits: 16 }), /found 16 bits$/],
      ["interlaced", png(2, 2, lines, { interlace: 1 }), /found an interlaced one; save it without/],
      ["short", png(2, 2, lines.subarray(1)), /found one that is broken or cut off$/],
      ["long", png(2, 2, new Uint8Array(2 * 3 + 1)), /found one that is broken or cut off$/],
      ["cut", whole.subarray(0, whole.length - 20), /found one that is broken or cut off$/],
      ["filter", png(2, 2, Uint8Array.of(9, 0, 0, 0, 0, 0)), /found one that is broken$/],
      ["none", png(0, 2, lines), /found 0x2 pixels$/],
      ["huge", png(2 ** 16, 2 ** 16, lines), /found 65536x65536 pixels$/],
      ["jpeg", await noise(4, 4).jpeg().toBuffer(), /found another file$/],
      ["empty", new Uint8Array(0), /found another file$/],
      ["header", whole.subarray(0, 20), /found a broken header$/],
    ];
    for (const [name, bytes, says] of files) {
      const path = await folder.write(`${name}.png`, bytes);
      const line = await failure(decodePlane(path));
      expect(line)
        .to.match(says)
        .and.to.include(`${name}.png: expected a PNG with one value of 8 bits a pixel`);
    }
    expect(await failure(decodePlane(folder.path))).to.match(/found something that is not a file$/);
    expect(await failure(decodePlane(`${folder.path}/nothing.png`))).to.match(/found no such file/);
  });
});
