/** Event files, which TensorBoard reads: TFRecords, each with an Event of tensorflow/core/util/event.proto. */
import { appendFileSync, closeSync, openSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { messageOf } from "../errors.ts";
import { makeFolder, writeFailed } from "../files/atomic.ts";
import { tfRecord } from "../files/tfrecord.ts";

/** Field numbers of event.proto and summary.proto. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 };
const SESSION_LOG = { status: 1 };
const SUMMARY = { value: 1 };
const VALUE = { tag: 1, simpleValue: 2, image: 4 };
const IMAGE = { height: 1, width: 2, colorspace: 3, encoded: 4 };
const START = 1;
const RGBA = 4;

export interface Picture {
  /** With red, green, blue and alpha. */
  readonly png: Uint8Array;
  /** Pixels. */
  readonly height: number;
  readonly width: number;
}

export interface EventFile {
  /** False once something could not be written. */
  readonly writable: boolean;
  /** Values after `step` steps, by their tags. */
  scalars(step: number, values: Readonly<Record<string, number>>): void;
  image(step: number, tag: string, picture: Picture): void;
  close(): void;
}

/**
 * Begins a new file in `dir`, after those that are there. Of these TensorBoard drops what is later than step `from`, as a run
 * that was cut off leaves it. What cannot be written is told once to `warn`; from there on nothing more is.
 */
export async function openEvents(
  dir: string,
  from: number,
  warn: (line: string) => void,
): Promise<EventFile> {
  let file: number | undefined;
  const close = () => {
    try {
      if (file !== undefined) closeSync(file);
    } catch {} // events alone are lost
    file = undefined;
  };
  const failed = (error: unknown) => {
    warn(`TensorBoard is told no more of this run: ${messageOf(writeFailed(dir, error))}`);
    close();
  };
  // Synchronous, as metrics.jsonl is.
  const write = (step: number, fill: (event: BinaryWriter) => unknown) => {
    if (file === undefined) return;
    const event = new BinaryWriter();
    event.tag(EVENT.wallTime, WireType.Bit64).double(Date.now() / 1000);
    event.tag(EVENT.step, WireType.Varint).int64(step);
    fill(event);
    try {
      appendFileSync(file, tfRecord(event.finish()));
    } catch (error) {
      failed(error);
    }
  };
  try {
    await makeFolder(dir);
    file = openSync(join(dir, nameAfter(await readdir(dir))), "wx");
  } catch (error) {
    failed(error);
  }
  write(0, (event) => event.tag(EVENT.fileVersion, WireType.LengthDelimited).string("brain.Event:2"));
  write(from + 1, (event) =>
    within(event, EVENT.sessionLog, (log) => log.tag(SESSION_LOG.status, WireType.Varint).int32(START)),
  );
  return {
    get writable() {
      return file !== undefined;
    },
    scalars: (step, values) =>
      write(step, (event) =>
        within(event, EVENT.summary, (summary) => {
          for (const [tag, value] of Object.entries(values))
            within(summary, SUMMARY.value, (entry) => {
              entry.tag(VALUE.tag, WireType.LengthDelimited).string(tag);
              entry.tag(VALUE.simpleValue, WireType.Bit32).float(Math.fround(value));
            });
        }),
      ),
    image: (step, tag, { png, height, width }) =>
      write(step, (event) =>
        within(event, EVENT.summary, (summary) =>
          within(summary, SUMMARY.value, (entry) => {
            entry.tag(VALUE.tag, WireType.LengthDelimited).string(tag);
            within(entry, VALUE.image, (image) => {
              image.tag(IMAGE.height, WireType.Varint).int32(height);
              image.tag(IMAGE.width, WireType.Varint).int32(width);
              image.tag(IMAGE.colorspace, WireType.Varint).int32(RGBA);
              image.tag(IMAGE.encoded, WireType.LengthDelimited).bytes(png);
            });
          }),
        ),
      ),
    close,
  };
}

/** Writes a message as a field of another. */
function within(writer: BinaryWriter, field: number, fill: (message: BinaryWriter) => unknown): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  fill(writer);
  writer.join();
}

/** TensorBoard reads files in the order of their names, which begin with a time: seconds, later than those of `names`. */
function nameAfter(names: readonly string[]): string {
  const times = names.map((name) => Number(/^events\.out\.tfevents\.(\d{10})\./.exec(name)?.[1] ?? 0));
  const time = times.reduce((latest, other) => Math.max(latest, other + 1), Math.floor(Date.now() / 1000));
  return `events.out.tfevents.${time}.${hostname()}.${process.pid}`;
}
