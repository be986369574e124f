import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { npyHeader, readNpy } from "../../src/files/npy.ts";
import { failure, temporaryFolder } from "../data/folder.ts";

describe("files/npy", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const values = [1, -2, 0.5, 4, 5, 6];

  /** As NumPy writes it: no padding where `align` is 1. */
  async function write(name: string, fields: string, data: ArrayBufferView, version = 1, align = 64) {
    const start = version === 1 ? 10 : 12;
    const length = Math.ceil((start + fields.length + 1) / align) * align - start;
    const header = Buffer.alloc(start + length, " ");
    header.write("\x93NUMPY", 0, "latin1");
    header[6] = version;
    header[7] = 0;
    if (version === 1) header.writeUInt16LE(length, 8);
    else header.writeUInt32LE(length, 8);
    header.write(`${fields.padEnd(length - 1)}\n`, start, "latin1");
    await writeFile(at(name), Buffer.concat([header, Buffer.from(data.buffer)]));
    return at(name);
  }
  const fields = (descr: string, shape: string, fortran = "False") =>
    `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': ${shape}, }`;

  it("reads what it writes, and float64, later versions and data that begins anywhere", async () => {
    await writeFile(
      at("own.npy"),
      Buffer.concat([npyHeader(2, 3), Buffer.from(Float32Array.from(values).buffer)]),
    );
    const wanted = { data: Float32Array.from(values), n: 2, d: 3 };
    expect(await readNpy(at("own.npy"))).to.deep.equal(wanted);
    const double = Float64Array.from(values);
    for (const [version, align] of [
      [1, 64],
      [2, 64],
      [1, 1],
    ] as const) {
      const file = await write("f8.npy", fields("<f8", "(2, 3)"), double, version, align);
      expect(await readNpy(file)).to.deep.equal(wanted);
    }
  });

  it("refuses other arrays, and files cut off", async () => {
    const single = Float32Array.from(values);
    const refused = async (file: string, says: RegExp) => expect(await failure(readNpy(file))).to.match(says);
    const other = /expected rows of float32 or float64, an array \[n, d\] in C order, found \{'descr'/;
    await refused(await write("a.npy", fields("<f2", "(2, 3)"), single), other);
    await refused(await write("a.npy", fields("<f4", "(6,)"), single), other);
    await refused(await write("a.npy", fields("<f4", "(2, 3)", "True"), single), other);
    await refused(await write("a.npy", fields("<f4", "(3, 3)"), single), /expected 36 bytes .* found 24/);
    await folder.write("a.npy", "no NumPy at all");
    await refused(at("a.npy"), /a\.npy: expected a \.npy file, found another format/);
    await refused(at("none.npy"), /none\.npy: expected a \.npy file, found no such file/);
  });
});
