import { expect } from "chai";
import { UserError } from "../../src/errors.ts";
import {
  decodeSafetensors,
  encodeSafetensors,
  parseJson,
  type TensorData,
} from "../../src/files/safetensors.ts";

const tensors = new Map<string, TensorData>([
  ["z", { dtype: "float32", shape: [2, 2], data: new Float32Array([1, -0, Number.NaN, 1e-40]) }],
  ["1", { dtype: "uint8", shape: [3], data: new Uint8Array([0, 128, 255]) }],
  ["flags", { dtype: "bool", shape: [2], data: new Uint8Array([1, 0]) }],
  ["a", { dtype: "int32", shape: [], data: new Int32Array([-7]) }],
  ["n", { dtype: "int64", shape: [1], data: new BigInt64Array([-(2n ** 60n)]) }],
  ["none", { dtype: "float32", shape: [0, 5], data: new Float32Array() }],
]);

/** A file with any header and so many bytes of data. */
function fileWith(header: string | object, data: number | Uint8Array = 0): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const body = typeof data === "number" ? new Uint8Array(data) : data;
  const file = new Uint8Array(8 + text.length + body.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  file.set(body, 8 + text.length);
  return file;
}
const entry = (begin: number, end: number, shape: unknown = [(end - begin) / 4], dtype: unknown = "F32") => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

function refuses(bytes: Uint8Array, message: RegExp) {
  expect(() => decodeSafetensors(bytes, "x.safetensors")).to.throw(UserError, message);
  expect(() => decodeSafetensors(bytes, "x.safetensors")).to.throw(/^x\.safetensors: [^\n]+$/);
}

describe("files/safetensors", () => {
  it("gives back what it took, in order and to the bit", () => {
    const metadata = { step: "12", note: 'quotes " and ü' };
    const decoded = decodeSafetensors(encodeSafetensors(tensors, metadata), "x");
    expect(decoded.metadata).to.deep.equal(metadata);
    expect([...decoded.tensors.keys()]).to.have.members([...tensors.keys()]);
    for (const [name, { dtype, shape, data }] of tensors) {
      const found = decoded.tensors.get(name)!;
      expect(found.dtype).to.equal(dtype);
      expect(found.shape).to.deep.equal(shape);
      expect(found.data.constructor).to.equal(data.constructor);
      expect(Buffer.from(found.data.slice().buffer).equals(Buffer.from(data.slice().buffer)), name).to.equal(
        true,
      );
    }
  });

  it("gives back aligned arrays wherever the bytes lie", () => {
    const file = encodeSafetensors(tensors);
    for (let shift = 0; shift < 8; shift++) {
      const moved = Buffer.alloc(file.length + shift); // a Buffer, whose slice() copies nothing
      moved.set(file, shift);
      const { data } = decodeSafetensors(moved.subarray(shift), "x").tensors.get("n")!;
      expect(data[0]).to.equal(-(2n ** 60n));
    }
  });

  it("writes the layout of the format, the same bytes each time", () => {
    const file = encodeSafetensors(new Map([["w", tensors.get("1")!]]), { a: "b" });
    const header = '{"__metadata__":{"a":"b"},"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
    expect(Buffer.from(file).equals(fileWith(padded, new Uint8Array([0, 128, 255])))).to.equal(true);
    expect(encodeSafetensors(tensors)).to.deep.equal(encodeSafetensors(new Map(tensors)));
    expect(decodeSafetensors(encodeSafetensors(new Map()), "x").tensors.size).to.equal(0);
  });

  it("refuses tensors that do not fit their shape or name", () => {
    const data = new Float32Array(3);
    expect(() => encodeSafetensors(new Map([["w", { dtype: "float32", shape: [2], data }]]))).to.throw(
      TypeError,
    );
    expect(() => encodeSafetensors(new Map([["w", { dtype: "int32", shape: [3], data }]]))).to.throw(
      TypeError,
    );
    for (const name of ["", "__metadata__", "__proto__", "a\nb"]) {
      expect(() => encodeSafetensors(new Map([[name, { dtype: "float32", shape: [3], data }]]))).to.throw(
        TypeError,
      );
    }
  });

  it("refuses a file cut off anywhere", () => {
    const file = encodeSafetensors(tensors, { step: "1" });
    for (let length = 0; length < file.length; length++) refuses(file.subarray(0, length), /expected/);
    refuses(new Uint8Array([...file, 0]), /bytes of data/);
  });

  it("refuses a header that is too long or not JSON", () => {
    const huge = fileWith({});
    huge.fill(0xff, 0, 8);
    refuses(huge, /expected a header of at most 2 bytes, found 18446744073709551615/);
    const long = new Uint8Array(8 + 17 * 2 ** 20);
    new DataView(long.buffer).setBigUint64(0, BigInt(17 * 2 ** 20), true);
    refuses(long, /header of at most 16777216 bytes/);
    refuses(fileWith("not JSON"), /expected JSON/);
    refuses(fileWith("[]"), /expected a header with an object, found a list/);
    refuses(fileWith("null"), /found null/);
    const badUtf8 = fileWith('{"w":1}');
    badUtf8[10] = 0xff;
    refuses(badUtf8, /expected JSON/);
  });

  it("refuses holes, overlaps and wrong sizes", () => {
    expect(decodeSafetensors(fileWith({ b: entry(4, 12), a: entry(0, 4) }, 12), "x").tensors.size).to.equal(
      2,
    );
    refuses(fileWith({ a: entry(0, 8), b: entry(4, 12) }, 12), /"b": expected data from offset 8, found 4/);
    refuses(fileWith({ a: entry(0, 4), b: entry(8, 12) }, 12), /"b": expected data from offset 4, found 8/);
    refuses(fileWith({ a: entry(4, 8) }, 8), /from offset 0, found 4/);
    refuses(fileWith({ a: entry(0, 8) }, 12), /expected 8 bytes of data, found 12/);
    refuses(fileWith({ a: entry(0, 8) }, 4), /expected data up to offset 8, found an end at 4/);
    refuses(fileWith({ a: entry(0, 8, [3]) }, 8), /expected 12 bytes for its shape, found 8/);
    refuses(fileWith({ a: entry(8, 0, [0]) }, 8), /expected/);
  });

  it("refuses entries that are not as the format says", () => {
    refuses(fileWith({ a: entry(0, 4, [1], "F64") }, 4), /a dtype of F32, U8, I32, I64, BOOL, found "F64"/);
    refuses(fileWith({ a: entry(0, 4, [1], 7) }, 4), /a dtype/);
    refuses(fileWith({ a: 1 }), /tensor "a": expected an object, found number/);
    refuses(fileWith({ a: {} }), /a dtype/);
    refuses(fileWith({ a: { ...entry(0, 4), more: 1 } }, 4), /found "more"/);
    for (const shape of [[-1], [1.5], ["1"], "1", null, Array(17).fill(1)]) {
      refuses(fileWith({ a: entry(0, 4, shape) }, 4), /a shape of at most 16 whole numbers/);
    }
    refuses(fileWith({ a: entry(0, 4, [2 ** 52, 2 ** 52, 2 ** 52]) }, 4), /bytes for its shape/);
    refuses(
      fileWith(
        {
          a: entry(
            0,
            4,
            Array(16)
              .fill(2 ** 52)
              .concat(0)
              .slice(1),
          ),
        },
        4,
      ),
      /bytes for its shape/,
    );
    refuses(fileWith({ a: { ...entry(0, 4), data_offsets: [0] } }, 4), /two data_offsets/);
    refuses(fileWith({ a: entry(0, 2, [2], "BOOL") }, new Uint8Array([1, 2])), /bools of 0 or 1/);
    refuses(fileWith({ "a\u001b[31m": entry(0, 4) }, 4), /a printable name/);
    refuses(fileWith({ __metadata__: { a: 1 } }), /__metadata__ of texts/);
    refuses(fileWith({ __metadata__: [] }), /__metadata__ of texts/);
  });

  it("refuses __proto__ as a key, at any depth", () => {
    refuses(fileWith('{"__proto__":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4), /__proto__/);
    refuses(fileWith('{"__metadata__":{"__proto__":"x"}}'), /__proto__/);
    expect(({} as { polluted?: unknown }).polluted).to.equal(undefined);
  });

  it("parses JSON only to a bounded depth", () => {
    const nested = (depth: number) => new TextEncoder().encode("[".repeat(depth) + "]".repeat(depth));
    expect(parseJson(nested(64), "x")).to.be.an("array");
    expect(() => parseJson(nested(65), "x")).to.throw(UserError, "x: expected JSON at most 64 deep");
    expect(() => parseJson(nested(500_000), "x")).to.throw(UserError);
  });
});
