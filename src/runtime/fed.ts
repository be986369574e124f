/**
 * Sessions of the package onnxruntime-node, which takes and gives arrays of JavaScript: what is kept between their runs is
 * fed to each and replaced by its outputs.
 */
import type * as ort from "onnxruntime-node";
import { free } from "./free.ts";
import { inArrays, type KeepingSession, type Kept, type Memory, type Value } from "./memory.ts";
import { openSession, type Session, type SessionOptions } from "./session.ts";

interface Held {
  /** Undefined until it is written. */
  tensor: ort.Tensor | undefined;
  /** Whether no one else has the tensor's memory. */
  own: boolean;
}
const held = new WeakMap<Value, Held>();

/** Puts another tensor in the place of a kept one, whose memory is freed. */
function put(value: Value, tensor: ort.Tensor): void {
  const { tensor: old, own } = held.get(value)!;
  if (old && own) free([old.data as Float32Array]);
  held.set(value, { tensor, own: true });
}

const keep = (tensor?: ort.Tensor): Kept => {
  const kept: Kept = { pointer: 0n, read: () => held.get(kept)!.tensor!, release() {} };
  held.set(kept, { tensor, own: false });
  return kept;
};

/** Arrays of JavaScript. A tensor may be written by a run that reads it: outputs have arrays of their own. */
export const fedMemory: Memory = { keep, blank: () => keep(), ...inArrays };

const fedSession = (session: Session): KeepingSession => ({
  inputs: session.inputs,
  outputs: session.outputs,
  memory: fedMemory,
  async run(feeds, { read, written = new Map<string, Value>() }, outputs) {
    const kept = Array.from(read, ([name, value]) => [name, held.get(value)!.tensor!] as const);
    const results = await session.run({ ...feeds, ...Object.fromEntries(kept) }, [
      ...written.keys(),
      ...outputs,
    ]);
    for (const [name, value] of written) put(value, results[name]!);
    return Object.fromEntries(outputs.map((name) => [name, results[name]!]));
  },
  close: () => session.close(),
});

/** @throws UserError as `openSession` */
export const openFed = async (
  graph: Uint8Array,
  what: string,
  options: SessionOptions,
): Promise<KeepingSession> => fedSession(await openSession(graph, what, options));
