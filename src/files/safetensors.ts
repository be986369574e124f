/**
 * The safetensors format: the header's length (8 bytes, little-endian), the header (JSON), the tensors' data.
 * https://huggingface.co/docs/safetensors
 */
import { expected } from "../errors.ts";
import type { DType, Json } from "../spec.ts";

/** A tensor on the host: row-major, one element of `data` per element of `shape`; bools are 0 or 1. */
export interface TensorData {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Float32Array | Uint8Array | Int32Array | BigInt64Array;
}

// Typed arrays are little-endian wherever Node and ONNX Runtime run, as the format's data are.
const LAYOUTS = {
  float32: { code: "F32", array: Float32Array },
  uint8: { code: "U8", array: Uint8Array },
  int32: { code: "I32", array: Int32Array },
  int64: { code: "I64", array: BigInt64Array },
  bool: { code: "BOOL", array: Uint8Array },
} as const satisfies Record<DType, { code: string; array: unknown }>;
const DTYPES = new Map(Object.entries(LAYOUTS).map(([dtype, { code }]) => [code as string, dtype as DType]));

const MAX_HEADER = 16 * 2 ** 20;
const MAX_RANK = 16;
const MAX_NAME = 1000;
const MAX_DEPTH = 64;

/** The file's bytes: tensors in the order given, the header padded with spaces to a multiple of 8 bytes. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, TensorData>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  // Written by hand, because an object would put names such as "1" first.
  const entries = Object.keys(metadata).length > 0 ? [`"__metadata__":${JSON.stringify(metadata)}`] : [];
  let end = 0;
  for (const [name, { dtype, shape, data }] of tensors) {
    const { code, array } = LAYOUTS[dtype];
    if (!isName(name)) throw new TypeError(`tensor ${JSON.stringify(name)}: not a name for a file`);
    if (!(data instanceof array) || data.length !== shape.reduce((a, b) => a * b, 1)) {
      throw new TypeError(
        `tensor "${name}": ${dtype} [${shape}] with ${data.constructor.name} of ${data.length}`,
      );
    }
    const begin = end;
    end += data.byteLength;
    entries.push(
      `${JSON.stringify(name)}:${JSON.stringify({ dtype: code, shape, data_offsets: [begin, end] })}`,
    );
  }

  const header = new TextEncoder().encode(`{${entries.join(",")}}`);
  const start = 8 + Math.ceil(header.length / 8) * 8;
  if (start - 8 > MAX_HEADER) throw new RangeError(`a header of ${header.length} bytes is too long`);
  const file = new Uint8Array(start + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(start - 8), true);
  file.fill(0x20, 8, start).set(header, 8);
  let at = start;
  for (const { data } of tensors.values()) {
    file.set(bytesOf(data), at);
    at += data.byteLength;
  }
  return file;
}

/**
 * The tensors in the order of their data, and the metadata. Arrays are views of `bytes` where they are aligned there.
 * `where` names the file in errors.
 * @throws UserError at the first thing that breaks the format.
 */
export function decodeSafetensors(
  bytes: Uint8Array,
  where: string,
): { tensors: Map<string, TensorData>; metadata: Record<string, string> } {
  if (bytes.length < 8) throw expected(where, "a safetensors file", `${bytes.length} bytes`);
  const length = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  const room = Math.min(MAX_HEADER, bytes.length - 8);
  if (length > room) throw expected(where, `a header of at most ${room} bytes`, `${length}`);
  const start = 8 + Number(length);
  const header = parseJson(bytes.subarray(8, start), where);
  if (!isObject(header)) throw expected(where, "a header with an object", kindOf(header));

  const tensors = new Map<string, TensorData>();
  const { __metadata__: metadata = {}, ...listed } = header;
  const entries = Object.entries(listed).map(([name, entry]) => entryOf(name, entry, where));
  let end = 0;
  for (const entry of entries.sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const at = `${where}: tensor "${entry.name}"`;
    if (entry.begin !== end) throw expected(at, `data from offset ${end}`, `${entry.begin}`);
    const wanted = entry.count * LAYOUTS[entry.dtype].array.BYTES_PER_ELEMENT;
    if (entry.end - entry.begin !== wanted) {
      throw expected(at, `${wanted} bytes for its shape`, `${entry.end - entry.begin}`);
    }
    end = entry.end;
    if (end > bytes.length - start) {
      throw expected(at, `data up to offset ${end}`, `an end at ${bytes.length - start}`);
    }
    const data = arrayOf(entry.dtype, bytes.subarray(start + entry.begin, start + entry.end));
    if (entry.dtype === "bool" && data.some((x: number | bigint) => x > 1)) {
      throw expected(at, "bools of 0 or 1", "others");
    }
    tensors.set(entry.name, { dtype: entry.dtype, shape: entry.shape, data });
  }
  if (end !== bytes.length - start) throw expected(where, `${end} bytes of data`, `${bytes.length - start}`);
  return { tensors, metadata: metadataOf(metadata, where) };
}

function entryOf(name: string, entry: Json, where: string) {
  const at = `${where}: tensor ${JSON.stringify(name.slice(0, 80))}`;
  if (!isName(name)) throw expected(at, `a printable name of at most ${MAX_NAME} characters`, "another");
  if (!isObject(entry)) throw expected(at, "an object", kindOf(entry));
  const { dtype: code, shape, data_offsets: offsets, ...others } = entry;
  const other = Object.keys(others)[0];
  if (other !== undefined) throw expected(at, "dtype, shape and data_offsets", JSON.stringify(other));
  const dtype = typeof code === "string" ? DTYPES.get(code) : undefined;
  if (!dtype) throw expected(at, `a dtype of ${[...DTYPES.keys()].join(", ")}`, shown(code));
  if (!isSizes(shape) || shape.length > MAX_RANK) {
    throw expected(at, `a shape of at most ${MAX_RANK} whole numbers`, shown(shape));
  }
  if (!isSizes(offsets) || offsets.length !== 2) throw expected(at, "two data_offsets", shown(offsets));
  // Past 2^53 a product is no longer exact, but then it is far beyond any file and its size does not fit.
  const count = shape.reduce((a, b) => a * b, 1);
  return { name, dtype, shape, count, begin: offsets[0]!, end: offsets[1]! };
}

function metadataOf(metadata: Json, where: string): Record<string, string> {
  const texts = isObject(metadata) ? Object.entries(metadata) : undefined;
  if (!texts?.every((pair): pair is [string, string] => typeof pair[1] === "string")) {
    throw expected(where, "__metadata__ of texts", shown(metadata));
  }
  return Object.fromEntries(texts);
}

function arrayOf(dtype: DType, bytes: Uint8Array): TensorData["data"] {
  const { array } = LAYOUTS[dtype];
  const aligned = bytes.byteOffset % array.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  return new array(
    aligned.buffer as ArrayBuffer,
    aligned.byteOffset,
    aligned.length / array.BYTES_PER_ELEMENT,
  );
}

/** The bytes of an array, shared with it. */
export function bytesOf(data: TensorData["data"]): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * JSON from a file that nobody has checked: UTF-8, nested at most 64 deep, and without the key `__proto__`, which
 * would change an object's prototype where it is copied by assignment.
 */
export function parseJson(bytes: Uint8Array, where: string, advice?: string): Json {
  let value: Json;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)) as Json;
  } catch {
    // The parser's message quotes the file, which may hold anything.
    throw expected(where, "JSON", "something else", advice);
  }
  const check = (part: Json, depth: number): void => {
    if (typeof part !== "object" || part === null) return;
    if (depth > MAX_DEPTH) throw expected(where, `JSON at most ${MAX_DEPTH} deep`, "deeper", advice);
    if (Object.hasOwn(part, "__proto__")) {
      throw expected(where, "plain keys", 'a key "__proto__"', advice);
    }
    for (const inner of Object.values(part)) check(inner, depth + 1);
  };
  check(value, 1);
  return value;
}

type JsonRecord = { readonly [key: string]: Json };

const isObject = (value: Json): value is JsonRecord =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isSizes = (value: Json | undefined): value is readonly number[] =>
  Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
const isName = (name: string): boolean =>
  name.length > 0 && name.length <= MAX_NAME && !/\p{Cc}/u.test(name) && !/^__\w+__$/.test(name);
const kindOf = (value: Json): string =>
  value === null ? "null" : Array.isArray(value) ? "a list" : typeof value;
const shown = (value: Json | undefined): string =>
  value === undefined ? "nothing" : JSON.stringify(value).slice(0, 80);
