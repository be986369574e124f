/**
 * A batch in chunks, called pieces: several tensors that hold some rows each, so that what is computed from one is
 * read while it is still in the processor's cache. A tensor in pieces stands for their concatenation, which is never
 * computed if all its readers go piece by piece.
 */
import { addDims, divideDims, sameShape, showShape } from "../graph/dims.ts";
import { operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import { chunk, concat, reshape } from "./movement.ts";

/** An operator that concatenates parts of one shape along the first axis. */
function rows(name: string) {
  const op = operator({
    type: "Concat",
    name,
    infer: (parts) => {
      const [first] = parts;
      if (parts.some((part) => !sameShape(part.shape, first!.shape))) {
        throw new ShapeError(`expected pieces of one shape, found ${parts.map((p) => showShape(p.shape))}`);
      }
      const count = parts.map((part) => part.shape[0]!).reduce(addDims);
      return [{ dtype: first!.dtype, shape: [count, ...first!.shape.slice(1)] }];
    },
    gradient: ({ inputs, grad }) => equalRows(grad, inputs.length),
  });
  return (parts: readonly Tensor[]) => (parts.length === 1 ? parts[0]! : op(parts, { axis: 0 })[0]!);
}

/** A tensor in pieces, of one shape. */
export const inPieces = rows("Pieces");
const whole = rows("Rows");

/** The pieces of a tensor; itself if it has none. */
export const piecesOf = (x: Tensor): readonly Tensor[] =>
  x.source.kind === "node" && x.source.op.name === "Pieces" ? (x.source.inputs as Tensor[]) : [x];

/** x cut into `count` pieces of equally many rows. A tensor that is in pieces already may keep more of them. */
export function cut(x: Tensor, count: number): Tensor {
  const { length } = piecesOf(x);
  return length === 1 ? inPieces(equalRows(x, count)) : inFewer(x, Math.max(1, Math.floor(length / count)));
}

/** x in fewer pieces, each of up to `times` of the present ones, as their number allows. These are concatenated. */
export function inFewer(x: Tensor, times: number): Tensor {
  const pieces = piecesOf(x);
  let size = Math.min(times, pieces.length);
  while (pieces.length % size !== 0) size--;
  return inPieces(
    Array.from({ length: pieces.length / size }, (_, i) => whole(pieces.slice(i * size, (i + 1) * size))),
  );
}

/** Applies `make` piece by piece to tensors that have equally many; the results, in pieces. */
export function byPieces<T extends readonly Tensor[]>(xs: T, make: (...pieces: T) => Tensor): Tensor {
  const all = xs.map(piecesOf);
  const counts = new Set(all.map((pieces) => pieces.length));
  if (counts.size !== 1) throw new ShapeError(`expected as many pieces of each, found ${[...counts]}`);
  return inPieces(all[0]!.map((_, i) => make(...(all.map((pieces) => pieces[i]!) as unknown as T))));
}

/** Rows in `count` equal parts. No sizes are read from x, since a node that reads them later would keep x alive. */
function equalRows(x: Tensor, count: number): readonly Tensor[] {
  if (count === 1) return [x];
  const [n, ...rest] = x.shape;
  const size = divideDims(n!, count);
  if (size === undefined) throw new ShapeError(`${n} rows have no ${count} equal parts`);
  const stacked = reshape(x, [count, size, ...rest]); // [count, rows, ...]
  return chunk(stacked, 0, count).map((part) => reshape(part, [size, ...rest])); // [rows, ...] each
}

/**
 * The rows of all parts, in order: the tensor that `split` cut, if these are all its parts; in pieces, if the parts
 * are; else concatenated.
 */
export function unsplit(parts: readonly Tensor[]): Tensor {
  const { source } = parts[0]!;
  if (source.kind === "node" && source.op.name === "Split" && source.attributes.axis === 0) {
    const all = source.outputs;
    if (all.length === parts.length && parts.every((part, i) => part === all[i])) return source.inputs[0]!;
  }
  return parts.some((part) => piecesOf(part).length > 1)
    ? inPieces(parts.flatMap(piecesOf))
    : concat(parts, 0);
}
