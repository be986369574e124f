/** Work on many items at a time, results in the items' order. */
import PQueue from "p-queue";
import { cores } from "../machine.ts";

/** @throws what the first failing call throws; calls not yet begun are then left out. */
export async function mapInOrder<T, R>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<R>,
  concurrency = 2 * cores(),
): Promise<R[]> {
  const queue = new PQueue({ concurrency });
  try {
    return await Promise.all(items.map((item, i) => queue.add(() => work(item, i))));
  } catch (error) {
    queue.clear();
    throw error;
  }
}
