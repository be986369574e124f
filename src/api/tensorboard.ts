/** What a run tells TensorBoard: the numbers of metrics.jsonl by their names there, and views of its images. */
import { loadSharp } from "../data/decode.ts";
import { messageOf } from "../errors.ts";
import type { Run } from "../report/run.ts";
import { type EventFile, openEvents, type Picture } from "../train/events.ts";
import type { MetricsLog } from "../train/run-folder.ts";
import type { EncoderOptions } from "./encoder.ts";
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

/** Begins an event file in `dir`, with the views of the run's next step, if there is one. */
export async function openTensorBoard(
  dir: string,
  run: Omit<Run, "records">,
  { from, steps, warn, threads }: TensorBoardOptions,
): Promise<EventFile> {
  const events = await openEvents(dir, from, warn);
  if (from >= steps) return events;
  try {
    const step = from + 1;
    const records = [{ step, epoch: 0 }]; // as if it had run; its epoch follows from the step
    events.image(step, "views", await sheetOf({ ...run, records }, { threads }));
  } catch (error) {
    warn(`TensorBoard is shown no views: ${messageOf(error)}`);
  }
  return events;
}

/** The report's sheet of views, as PNG: TensorBoard does not show WebP. */
async function sheetOf(run: Run, where: EncoderOptions): Promise<Picture> {
  const { url } = (await viewsShown(run, where)).sprite;
  const webp = Buffer.from(url.slice(url.indexOf(",") + 1), "base64");
  const sharp = await loadSharp();
  const { data, info } = await sharp(webp).ensureAlpha().png().toBuffer({ resolveWithObject: true });
  return { png: data, height: info.height, width: info.width };
}
