/** In which order a run takes its images. */
import { randomFor } from "../random.ts";

/** The order of an epoch's images; remembers the last one, as the steps of an epoch follow each other. */
export function epochOrders(count: number, seed: number): (epoch: number) => readonly number[] {
  const indices = Array.from({ length: count }, (_, i) => i);
  let last = { epoch: -1, order: indices };
  return (epoch) => {
    if (epoch !== last.epoch) last = { epoch, order: randomFor(seed, "epoch", epoch).shuffled(indices) };
    return last.order;
  };
}
