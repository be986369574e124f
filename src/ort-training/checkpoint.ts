/**
 * The checkpoint that ONNX Runtime's training API opens: a flatbuffer by its schema `checkpoint.fbs`, format 2. It holds
 * parameters alone: the runtime begins with moments of zero.
 */
import { Builder } from "flatbuffers";
import { expected } from "../errors.ts";
import type { TensorData } from "../files/safetensors.ts";
import { DATA_TYPES } from "../graph/protos.ts";

export type Tensors = ReadonlyMap<string, TensorData>;

/** A vector or a table that the builder has written. */
type Offset = number;

const VERSION = 2;
/** What a flatbuffer's offsets reach. */
const MOST = 2 ** 31 - 2 ** 20;

/** Fields of the tables, by their place in the schema. */
const CHECKPOINT = { version: 0, moduleState: 1, count: 4 };
const MODULE = { trained: 0, frozen: 1, count: 4 };
const TENSOR = { name: 0, dims: 2, dataType: 3, rawData: 4, count: 7 };

/**
 * The bytes of a checkpoint.
 *
 * @param trained parameters that the optimizer model updates
 * @param frozen all others: the runtime does not change them, but the training model may
 * @throws UserError if they are larger than a flatbuffer can be, 2 GiB
 */
export function encodeCheckpoint(trained: Tensors, frozen: Tensors): Uint8Array {
  const bytes = [...trained.values(), ...frozen.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  if (bytes > MOST) {
    throw expected("checkpoint", `at most ${MOST} bytes of state`, `${bytes}`, "take a smaller encoder");
  }
  const b = new Builder(bytes + 2 ** 16);
  const [trainedVector, frozenVector] = [trained, frozen].map((tensors) => vectorOf(b, tensors)); // [] where there are none
  b.startObject(MODULE.count);
  b.addFieldOffset(MODULE.trained, trainedVector!, 0);
  b.addFieldOffset(MODULE.frozen, frozenVector!, 0);
  const moduleState = b.endObject();
  b.startObject(CHECKPOINT.count);
  b.addFieldInt32(CHECKPOINT.version, VERSION, 0);
  b.addFieldOffset(CHECKPOINT.moduleState, moduleState, 0);
  b.finish(b.endObject(), "ODTC");
  return b.asUint8Array();
}

/** Tensors by name, as the runtime writes them. */
function vectorOf(b: Builder, tensors: Tensors): Offset {
  const sorted = [...tensors].sort(([a], [z]) => (a < z ? -1 : 1));
  const offsets = sorted.map(([name, tensor]) => tensorOf(b, name, tensor));
  b.startVector(4, offsets.length, 4);
  for (const offset of offsets.toReversed()) b.addOffset(offset);
  return b.endVector();
}

function tensorOf(b: Builder, name: string, { dtype, shape, data }: TensorData): Offset {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const rawData = b.createByteVector(bytes);
  b.startVector(8, shape.length, 8);
  for (const size of shape.toReversed()) b.addInt64(BigInt(size));
  const dims = b.endVector();
  const label = b.createString(name);
  b.startObject(TENSOR.count);
  b.addFieldOffset(TENSOR.name, label, 0);
  b.addFieldOffset(TENSOR.dims, dims, 0);
  b.addFieldInt32(TENSOR.dataType, DATA_TYPES[dtype], 0);
  b.addFieldOffset(TENSOR.rawData, rawData, 0);
  return b.endObject();
}
