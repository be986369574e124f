/** What a run tells TensorBoard: the numbers of metrics.jsonl by their names there, views of its images and their features. */
import { loadSharp } from "../data/decode.ts";
import { openDecoder } from "../data/decoder.ts";
import { messageOf } from "../errors.ts";
import type { Run } from "../report/run.ts";
import { type Sprite, spriteOf } from "../report/sprite.ts";
import { type EventFile, openEvents, type Picture } from "../train/events.ts";
import type { Progress } from "../train/progress.ts";
import { writeProjection } from "../train/projector.ts";
import type { MetricsLog } from "../train/run-folder.ts";
import { type EncoderOptions, openEncoder } from "./encoder.ts";
import { embeddedBy, imagesShown, thumbnails } from "./report-embedding.ts";
import { viewsShown } from "./report-views.ts";

/** `metrics` that an event file repeats. */
export function repeated(metrics: MetricsLog, events: EventFile): Pick<MetricsLog, "write" | "amend"> {
  return {
    write(record) {
      metrics.write(record);
      const { step, ...values } = record;
      events.scalars(step, values);
    },
    amend(more) {
      metrics.amend(more);
      events.scalars(metrics.last!.step, more);
    },
  };
}

export interface TensorBoardOptions extends Pick<EncoderOptions, "threads"> {
  /** Steps that have run. */
  readonly from: number;
  /** Of the whole run. */
  readonly steps: number;
  /** Told what fails: it never ends a run. */
  readonly warn: (line: string) => void;
}

export interface TensorBoard extends EventFile {
  /** Shows a sample of images by their features, those that a report shows; `encoder` is the path of the run's encoder.onnx. */
  project(
    encoder: string,
    work: { readonly progress: Progress; readonly signal?: AbortSignal | undefined },
  ): Promise<void>;
}

/** Begins an event file in `dir`, with the views of the run's next step, if there is one. */
export async function openTensorBoard(
  dir: string,
  run: Omit<Run, "records">,
  { from, steps, warn, threads }: TensorBoardOptions,
): Promise<TensorBoard> {
  const events = await openEvents(dir, from, warn);
  const attempt = async (what: string, make: () => Promise<void>) => {
    if (!events.writable) return; // which was told
    await make().catch((error: unknown) => warn(`TensorBoard is shown no ${what}: ${messageOf(error)}`));
  };
  if (from < steps)
    await attempt("views", async () => {
      const step = from + 1;
      const records = [{ step, epoch: 0 }]; // as if it had run; its epoch follows from the step
      const { sprite } = await viewsShown({ ...run, records }, { threads });
      events.image(step, "views", await pictureOf(sprite));
    });
  const project: TensorBoard["project"] = (encoder, work) =>
    attempt("embeddings", () =>
      projected(dir, encoder, run, { name: `features after ${steps} steps`, threads, ...work }),
    );
  return Object.assign(events, { project });
}

/** Side of a thumbnail, pixels. */
const THUMBNAIL = 48;

interface Projecting extends Pick<EncoderOptions, "threads"> {
  readonly name: string;
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
}

async function projected(
  dir: string,
  path: string,
  run: Omit<Run, "records">,
  { name, threads, progress, signal }: Projecting,
): Promise<void> {
  const { sources } = await imagesShown(run);
  const decoder = openDecoder(sources, { warn: () => {} }); // training has warned
  const encoder = await openEncoder(path, { threads });
  try {
    const [sample] = await embeddedBy([encoder], sources, decoder, {
      title: "TensorBoard",
      progress,
      signal,
    });
    const { features, files } = sample!;
    const { classes, labels } = features;
    const named = classes.length > 0 && { class: Array.from(labels, (label) => classes[label]!) };
    const sprite = await spriteOf(await thumbnails(files, decoder, THUMBNAIL), {
      ...{ cell: THUMBNAIL, mostBytes: Number.POSITIVE_INFINITY, exact: true },
    });
    const columns = { ...named, image: files };
    await writeProjection(dir, {
      name,
      rows: features,
      columns,
      sprite: await pictureOf(sprite),
      cell: THUMBNAIL,
    });
  } finally {
    progress.end();
    await encoder.close();
  }
}

/** As PNG: TensorBoard does not show WebP. */
async function pictureOf({ url }: Sprite): Promise<Picture> {
  const webp = Buffer.from(url.slice(url.indexOf(",") + 1), "base64");
  const sharp = await loadSharp();
  const { data, info } = await sharp(webp).ensureAlpha().png().toBuffer({ resolveWithObject: true });
  return { png: data, height: info.height, width: info.width };
}
