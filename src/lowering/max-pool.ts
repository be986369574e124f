/** Max pooling that tells where each maximum was, for runtimes that do: its gradient is scattered there. */
import { type Attributes, operator, type Tensor } from "../graph/tensor.ts";
import { scatterFlat } from "../ops/indexing.ts";
import { pooled } from "../ops/pool.ts";

const maxWithPlacesOp = operator({
  type: "MaxPool",
  name: "MaxPoolWithPlaces",
  infer: ([x], attributes) => {
    const y = pooled(x!, attributes);
    return [y, { dtype: "int64", shape: y.shape }];
  },
  // The second output holds the index of each maximum in the flat input.
  gradient: ({ inputs: [x], outputs: [, places], grad }) => [scatterFlat(x!, places!, grad)],
});

export const maxPoolWithPlaces = (x: Tensor, attributes: Attributes): Tensor =>
  maxWithPlacesOp([x], attributes)[0]!;
