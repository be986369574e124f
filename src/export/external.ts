/** Weights that a model keeps in files beside it ("external data" of ONNX), read into the model. */
import { realpath } from "node:fs/promises";
import { dirname, isAbsolute, join, resolve, sep } from "node:path";
import {
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type SparseTensorProto,
  type TensorProto,
  TensorProto_DataLocation,
} from "onnx-buf";
import { expected } from "../errors.ts";
import { readWhole } from "../files/atomic.ts";

/** Bytes of all weights. */
const MOST = 2 ** 30;

/**
 * Changes `model` in place. Files are read from the model's own folder alone: a model from elsewhere
 * must not bring what else lies on this machine into its features.
 *
 * @param file the model's path
 * @throws UserError if a file lies outside of that folder, is missing, or holds less than the model says
 */
export async function inlineExternalData(model: ModelProto, file: string): Promise<void> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  let left = MOST;
  for (const tensor of tensorsOf(model)) {
    if (tensor.dataLocation !== TensorProto_DataLocation.EXTERNAL) continue;
    const given = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
    const location = given.get("location") ?? "";
    let bytes = files.get(location);
    if (!bytes) {
      bytes = await readWhole(
        await placeOf(file, location),
        left,
        "weights of a model",
        "copy them beside it",
      );
      left -= bytes.length;
      files.set(location, bytes);
    }
    const offset = Number(given.get("offset") ?? 0);
    const length = Number(given.get("length") ?? bytes.length - offset);
    if (!isCount(offset) || !isCount(length) || offset + length > bytes.length) {
      const found = `bytes from ${shown(given.get("offset"))} on, ${shown(given.get("length"))} of them`;
      throw expected(`${file}: weights in ${shown(location)}`, `a part of its ${bytes.length} bytes`, found);
    }
    tensor.rawData = bytes.subarray(offset, offset + length);
    tensor.dataLocation = TensorProto_DataLocation.DEFAULT;
    tensor.externalData = [];
  }
}

const isCount = (x: number) => Number.isSafeInteger(x) && x >= 0;
const shown = (text = "nothing"): string => JSON.stringify(text.slice(0, 80));

/** The file that a model names, in its folder also once links are followed. */
async function placeOf(file: string, location: string): Promise<string> {
  const folder = await realpath(dirname(resolve(file)));
  const where = `${file}: weights in ${shown(location)}`;
  const outside = () =>
    expected(where, "a file in the model's folder", "one outside of it", "copy it beside the model");
  if (location === "" || location.includes("\0"))
    throw expected(where, "a file in the model's folder", "no name");
  const path = join(folder, location);
  if (isAbsolute(location) || !path.startsWith(folder + sep)) throw outside();
  const real = await realpath(path).catch(() => {
    throw expected(where, "a file in the model's folder", "none", "copy it beside the model");
  });
  if (!real.startsWith(folder + sep)) throw outside();
  return real;
}

/** All constants of a model: of its graph, of those nested in it and of its functions. */
function* tensorsOf({ graph, functions }: ModelProto): Generator<TensorProto> {
  if (graph) yield* ofGraph(graph);
  for (const { node } of functions) yield* ofNodes(node);
}

function* ofGraph({ initializer, sparseInitializer, node }: GraphProto): Generator<TensorProto> {
  yield* initializer;
  yield* ofSparse(sparseInitializer);
  yield* ofNodes(node);
}

function* ofNodes(nodes: readonly NodeProto[]): Generator<TensorProto> {
  for (const { attribute } of nodes) {
    for (const { t, tensors, sparseTensor, sparseTensors, g, graphs } of attribute) {
      yield* t ? [t, ...tensors] : tensors;
      yield* ofSparse(sparseTensor ? [sparseTensor, ...sparseTensors] : sparseTensors);
      for (const inner of g ? [g, ...graphs] : graphs) yield* ofGraph(inner);
    }
  }
}

function* ofSparse(sparse: readonly SparseTensorProto[]): Generator<TensorProto> {
  for (const { values, indices } of sparse) for (const t of [values, indices]) if (t) yield t;
}
