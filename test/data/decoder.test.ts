import { existsSync } from "node:fs";
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { decodeSource } from "../../src/data/decode.ts";
import { openDecoder } from "../../src/data/decoder.ts";
import { findImages, type SourceOptions } from "../../src/data/sources.ts";
import { failure, plain, temporaryFolder } from "./folder.ts";
import { tiff } from "./tiff.ts";

describe("data/decoder", () => {
  const folder = temporaryFolder();
  const size = { width: 4, height: 4 };

  /** Decodes all images of the folder, at once and one after the other; the warnings, sorted. */
  async function warningsOf(root: string, options: SourceOptions = {}) {
    const sources = await findImages(join(folder.path, root), options);
    const warnings: string[] = [];
    const decoder = openDecoder(sources, { warn: (line) => warnings.push(line) });
    const decoded = await Promise.all(sources.files.map((file) => decoder.square(file, 4)));
    for (const file of sources.files) await decoder.source(file, 4);
    return { decoded: decoded.filter(Boolean).length, warnings };
  }

  it("says what was left out, then each kind of file once, and each broken image", async () => {
    const good = await plain(4, 4, "white").png().toBuffer();
    for (let i = 0; i < 3; i++) {
      await folder.write(
        `mixed/float${i}.tif`,
        tiff({ ...size, bands: 1, bits: 32, values: "float" }, () => 5),
      );
      await folder.write(
        `mixed/dark${i}.tif`,
        tiff({ ...size, bands: 1, bits: 16 }, () => 999),
      );
      await folder.write(
        `mixed/near${i}.tif`,
        tiff({ ...size, bands: 4, bits: 8 }, () => 9),
      );
      await folder.write(`mixed/other${i}.bmp`, "");
    }
    await folder.write("mixed/good.png", good);
    await folder.write("mixed/cut.png", good.subarray(0, 50));
    const { decoded, warnings } = await warningsOf("mixed");
    expect(decoded).to.equal(7);
    expect(warnings[0]).to.match(/left out 3 \.bmp/);
    const rest = warnings.slice(1).map((line) => line.slice(folder.path.length).replace(/\d\.tif/, "?.tif"));
    const once = "(said once for all such files)";
    expect([...new Set(rest)].sort()).to.deep.equal([
      "/mixed/cut.png: expected an image that can be decoded, found Input buffer has corrupt header; it is left out",
      `/mixed/dark?.tif: 16-bit values end at 999, where 65535 is white; if others end there too, give --range 0,1023 ${once}`,
      `/mixed/float?.tif: expected 8-bit or 16-bit values without a sign, found 32-bit float values of about 5 to 5; give the values of black and white with --range low,high; it is left out ${once}`,
      `/mixed/near?.tif: 4 bands, and the file does not say what each is; the first three are taken as red, green and blue ${once}`,
    ]);
    expect(rest).to.have.length(5); // the broken one in each of two rounds
    const ranged = await warningsOf("mixed", { range: [0, 1000] });
    expect(ranged.decoded).to.equal(10);
    expect(ranged.warnings.filter((line) => /dark|float/.test(line))).to.deep.equal([]);
  });

  it("tells why a file cannot be read", async () => {
    const reasons: [file: string, target: string, reason: string][] = [
      ["gone.jpg", join(folder.path, "absent"), "no such file or directory (ENOENT)"],
      ["loop.jpg", join(folder.path, "loop.jpg"), "too many symbolic links encountered (ELOOP)"],
      // Nothing lies at address 0 of a process.
      ...(existsSync("/proc/self/mem")
        ? [["io.jpg", "/proc/self/mem", "i/o error (EIO)"] as [string, string, string]]
        : []),
      ["device.jpg", "/dev/zero", "something that is not a file"],
      ["folder.jpg", folder.path, "something that is not a file"],
    ];
    for (const [file, target, reason] of reasons) {
      const path = join(folder.path, file);
      await symlink(target, path);
      const wanted = `${path}: expected an image that can be decoded, found ${reason}`;
      expect(await failure(decodeSource(path, 4))).to.equal(wanted);
    }
    const empty = await folder.write("empty.jpg", "");
    expect(await failure(decodeSource(empty, 4))).to.match(/found an empty file$/);
  });

  it("reads nothing but the formats it names, whatever a file is called", async () => {
    const others = {
      "drawing.png":
        '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="4" height="4"/></svg>',
      "declared.jpg": '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>',
      "bitmap.jpg": "BM\0\0\0\0\0\0\0\0",
    };
    for (const [name, content] of Object.entries(others)) {
      const path = await folder.write(name, content);
      expect(await failure(decodeSource(path, 4))).to.equal(
        `${path}: expected an image that can be decoded, found none of JPEG, PNG, WebP, AVIF, TIFF and GIF`,
      );
    }
    const jpeg = await plain(4, 4, "white").jpeg().toBuffer();
    expect((await decodeSource(await folder.write("really-a-jpeg.png", jpeg), 4)).pixels[0]).to.equal(255);
  });
});
