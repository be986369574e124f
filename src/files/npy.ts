/** NumPy's .npy files that hold a matrix of floats: rows of features. */
import { expected } from "../errors.ts";
import { readWhole } from "./atomic.ts";

const MAGIC = "\x93NUMPY";
const MAX_BYTES = 2 ** 33;

/** Of float32 [n, d], n below a million millions: 128 bytes. Version 1.0 of the format: magic, length, a Python dictionary, padded to 64 bytes. */
export function npyHeader(n: number, d: number): Buffer {
  const fields = `{'descr': '<f4', 'fortran_order': False, 'shape': (${n}, ${d}), }`;
  const length = Math.ceil((10 + fields.length + 1) / 64) * 64;
  const header = Buffer.alloc(length, " ");
  header.write(`${MAGIC}\x01\x00`, 0, "latin1");
  header.writeUInt16LE(length - 10, 8);
  header.write(fields, 10, "latin1");
  header.write("\n", length - 1, "latin1");
  return header;
}

export interface Matrix {
  /** [n, d] */
  readonly data: Float32Array;
  readonly n: number;
  readonly d: number;
}

/** Reads float32 or float64 [n, d]. @throws UserError if the file is missing, damaged or holds something else. */
export async function readNpy(file: string): Promise<Matrix> {
  const bytes = await readWhole(file, MAX_BYTES, "a .npy file");
  const view = Buffer.from(bytes.buffer, 0, bytes.length);
  if (view.toString("latin1", 0, 6) !== MAGIC || view.length < 12)
    throw expected(file, "a .npy file", "another format");
  const [start, length] = view[6] === 1 ? [10, view.readUInt16LE(8)] : [12, view.readUInt32LE(8)];
  const header = view.toString("latin1", start, Math.min(start + length, view.length));
  const type = /'descr': *'<f([48])'/.exec(header)?.[1];
  const shape = /'shape': *\((\d+), *(\d+)\)/.exec(header);
  if (!type || !shape || !/'fortran_order': *False/.test(header))
    throw expected(
      file,
      "rows of float32 or float64, an array [n, d] in C order",
      header.trim().slice(0, 200),
    );
  const [n, d, size] = [Number(shape[1]), Number(shape[2]), Number(type)];
  const [from, wanted] = [start + length, n * d * size];
  if (view.length - from !== wanted)
    throw expected(file, `${wanted} bytes of an array [${n}, ${d}]`, `${Math.max(0, view.length - from)}`);
  // A header may end anywhere, but an array of floats begins at a multiple of their size.
  const buffer = from % size === 0 ? bytes.buffer : bytes.buffer.slice(from);
  const at = from % size === 0 ? from : 0;
  const data =
    size === 4 ? new Float32Array(buffer, at, n * d) : Float32Array.from(new Float64Array(buffer, at, n * d));
  return { data, n, d };
}
