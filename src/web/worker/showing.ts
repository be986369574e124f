/** What is shown of a training beside its loss: views of a step, and nearest neighbours, in a small share of the time. */
import * as ort from "onnxruntime-node";
import { randomFor } from "../../random.ts";
import type { Session } from "../../runtime/session.ts";
import { VIEW_COLUMNS } from "../../spec.ts";
import type { Answer, Neighbours } from "../messages.ts";
import type { Beside } from "./beside.ts";
import { taken } from "./images.ts";
import { inChunks, nearestTo, normalized } from "./neighbours.ts";
import type { Runtime } from "./runtime.ts";
import type { Advanced, Training } from "./training.ts";

/** Of all that steps take. */
const SHARE = 0.1;
const VIEWS_EVERY = 20;
const NEIGHBOURS_EVERY = 50;
/** Rows of views. */
const VIEWED = 12;
/** Neighbours of so many images, so many each, among so many. */
const [QUERIES, NEAREST, AMONG] = [12, 5, 500] as const;

export interface Showing {
  /** Neighbours by the encoder as it stands. */
  neighbours(): Promise<Neighbours>;
  /** What is due after a step, as far as there is time for it. */
  after(advanced: Advanced): Promise<readonly Answer[]>;
  close(): Promise<void>;
}

export async function openShowing(
  { manifest, views: graph }: Beside,
  { open }: Runtime,
  training: Training,
): Promise<Showing> {
  const { images, settings, trainer } = training;
  const session: Session = await open(graph, "views.onnx", { asWritten: true });
  const order = randomFor(settings.seed, "shown").shuffled([...images.names.keys()]);
  const shown = order.slice(0, AMONG); // images by their places here
  let steps = 0; // milliseconds
  let spent = 0;
  const timed = async <T>(work: () => Promise<T>): Promise<T> => {
    const began = performance.now();
    const result = await work();
    spent += performance.now() - began;
    return result;
  };

  async function neighbours(): Promise<Neighbours> {
    const { side } = images;
    const features = await inChunks(shown.length, (from, to) =>
      trainer.encode(taken(images, shown.slice(from, to)), [to - from, side, side, 3]),
    );
    const d = features.length / shown.length;
    const rows = normalized(features, d);
    const queries = shown.slice(0, QUERIES);
    const nearest = queries.map((_, q) =>
      nearestTo(rows.subarray(q * d, (q + 1) * d), rows, NEAREST, q).map((row) => shown[row]!),
    );
    return { queries, nearest };
  }

  async function views({ seen, views }: Advanced): Promise<Answer> {
    const n = Math.min(VIEWED, settings.batch);
    const { side } = images;
    const columns = VIEW_COLUMNS.length;
    const feeds: Record<string, ort.Tensor> = {
      images: new ort.Tensor("uint8", seen.slice(0, n * side * side * 3), [n, side, side, 3]),
    };
    views.forEach((rows, i) => {
      feeds[`view${i}`] = new ort.Tensor("float32", rows.slice(0, n * columns), [n, columns]);
    });
    const drawn = await session.run(feeds);
    const pictures = manifest.views.map(({ recipe: { size } }, i) => {
      const values = drawn[session.outputs[i]!]!.data as Float32Array; // [n, size, size, 3]
      return { size, pixels: new Uint8Array(Uint8ClampedArray.from(values)) }; // rounded, too
    });
    return { kind: "views", rows: n, views: pictures };
  }

  return {
    neighbours,
    async after(advanced) {
      steps += advanced.milliseconds;
      const { step } = advanced.answer;
      const answers: Answer[] = [];
      const affordable = () => spent <= SHARE * steps;
      if (step % VIEWS_EVERY === 1 && affordable()) answers.push(await timed(() => views(advanced)));
      if (step === settings.steps || (step % NEIGHBOURS_EVERY === 0 && affordable()))
        answers.push({ kind: "neighbours", when: "now", step, found: await timed(neighbours) });
      return answers;
    },
    close: () => session.close(),
  };
}
