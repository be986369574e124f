/** A step in micro-batches: the loss of the whole batch, in the memory of a few of its images. */
import * as ort from "onnxruntime-node";
import type { Artifact } from "../artifact/files.ts";
import { fitted } from "./cpu/fitted.ts";
import { type Feeds, openSession, type Session, type SessionOptions } from "./session.ts";

const PARTS = ["embed", "contrast", "backward", "update"] as const;

/**
 * Runs the graphs `embed`, `contrast`, `backward` and `update` of an artifact (see `STEP_GRAPHS`) as one: takes and
 * gives what its `step` would, in micro-batches of `microBatch` images.
 */
export async function openParts(
  artifact: Artifact,
  microBatch: number,
  options: SessionOptions,
): Promise<Pick<Session, "run" | "close">> {
  const open = async (part: (typeof PARTS)[number]) => {
    const graph = await fitted(await artifact.graph(part), options.provider);
    return openSession(graph, `${artifact.dir}/${part}.onnx`, { ...options, asWritten: true });
  };
  const [embed, contrast, backward, update] = (await Promise.all(PARTS.map(open))) as [
    Session,
    Session,
    Session,
    Session,
  ];
  const perImage = ["images", ...artifact.manifest.views.map(({ input }) => input)];
  const cuts = embed.outputs;
  const buffers = artifact.manifest.state.filter(({ next }) => backward.outputs.includes(next));
  const sums = update.inputs.filter((name) => backward.outputs.includes(`${name}.next`));

  async function run(feeds: Feeds): Promise<Record<string, ort.Tensor>> {
    const n = feeds.images!.dims[0]!;
    const blocks = Array.from({ length: Math.ceil(n / microBatch) }, (_, i) => {
      const [from, to] = [i * microBatch, Math.min(n, (i + 1) * microBatch)] as const;
      return { from, to, feeds: { ...feeds, ...rowsOf(feeds, perImage, from, to) } };
    });

    const embedded: Record<string, ort.Tensor>[] = [];
    for (const block of blocks) embedded.push(await embed.run(taken(embed, block.feeds)));
    const whole = Object.fromEntries(
      cuts.map((name) => [name, joined(embedded.map((block) => block[name]!))]),
    );
    const contrasted = await contrast.run(taken(contrast, { ...feeds, ...whole }));
    const seeds = cuts.map((name) => `gradient.${name}`);

    let latest: Record<string, ort.Tensor> = {};
    let sum: Record<string, ort.Tensor> = Object.fromEntries(
      sums.map((name) => [name, zerosLike(feeds[name.replace("gradient.", "")]!)]),
    );
    for (const block of blocks) {
      const rows = rowsOf(contrasted, seeds, block.from, block.to);
      const found = await backward.run(taken(backward, { ...block.feeds, ...latest, ...rows, ...sum }));
      sum = Object.fromEntries(sums.map((name) => [name, found[`${name}.next`]!]));
      latest = Object.fromEntries(buffers.map(({ name, next }) => [name, found[next]!]));
    }
    const updated = await update.run(taken(update, { ...feeds, ...sum }));
    const kept = Object.fromEntries(buffers.map(({ name, next }) => [next, latest[name]!]));
    return { ...contrasted, ...kept, ...updated };
  }

  return {
    run,
    async close() {
      for (const session of [embed, contrast, backward, update]) await session.close();
    },
  };
}

/** The feeds that a session takes. */
const taken = (session: Session, feeds: Feeds): Feeds =>
  Object.fromEntries(session.inputs.map((name) => [name, feeds[name]!]));

/** Rows from..to of the tensors named. */
const rowsOf = (feeds: Feeds, names: readonly string[], from: number, to: number): Feeds =>
  Object.fromEntries(
    names.map((name) => {
      const { type, data, dims } = feeds[name]!;
      const size = data.length / dims[0]!;
      const rows = (data as Float32Array).subarray(from * size, to * size);
      return [name, new ort.Tensor(type as "float32", rows, [to - from, ...dims.slice(1)])];
    }),
  );

function joined(parts: readonly ort.Tensor[]): ort.Tensor {
  const data = new Float32Array(parts.reduce((sum, t) => sum + t.data.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data as Float32Array, at);
    at += part.data.length;
  }
  const rows = parts.reduce((sum, t) => sum + t.dims[0]!, 0);
  return new ort.Tensor("float32", data, [rows, ...parts[0]!.dims.slice(1)]);
}

const zerosLike = ({ dims, data }: ort.Tensor): ort.Tensor =>
  new ort.Tensor("float32", new Float32Array(data.length), [...dims]);
