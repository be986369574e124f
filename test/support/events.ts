/** Reads event files strictly: each byte has to be one that the format expects. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { expect } from "chai";

export interface Event {
  readonly step: number;
  readonly version?: string;
  /** Of a SessionLog; 1 is its start. */
  readonly status?: number;
  readonly scalars?: Readonly<Record<string, number>>;
  readonly images?: Readonly<Record<string, Image>>;
}

interface Image {
  readonly height: number;
  readonly width: number;
  readonly colorspace: number;
  readonly encoded: Uint8Array;
}

/** The events of each file in the folder, in the order that TensorBoard reads them in. */
export const eventFiles = (dir: string): Event[][] =>
  readdirSync(dir)
    .filter((name) => !/^projector(_config\.pbtxt)?$/.test(name))
    .sort()
    .map((name) => {
      expect(name).to.match(/^events\.out\.tfevents\.\d{10}\../);
      return records(readFileSync(join(dir, name))).map(eventOf);
    });

/** What TensorBoard keeps of them: a session's start drops what came before it for its step and later ones. */
export function kept(files: readonly (readonly Event[])[]): Event[] {
  let found: Event[] = [];
  for (const event of files.flat()) {
    if (event.status === 1) found = found.filter(({ step }) => step < event.step);
    else found.push(event);
  }
  return found;
}

/** CRC-32C bit by bit, masked. */
function checksum(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes)
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (((crc ^ (byte >> bit)) & 1) * 0x82f63b78);
  const sum = ~crc >>> 0;
  return (Math.floor(sum / 2 ** 15) + ((sum * 2 ** 17) % 2 ** 32) + 0xa282ead8) % 2 ** 32;
}

function records(bytes: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 12 + Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8), "checksum of a length").to.equal(checksum(bytes.subarray(at, at + 8)));
    found.push(bytes.subarray(at + 12, end));
    expect(bytes.readUInt32LE(end), "checksum of data").to.equal(checksum(found.at(-1)!));
    at = end + 4;
  }
  return found;
}

type Field = (reader: BinaryReader) => unknown;

/** Hands each field to what `fields` has for its number. */
function message(bytes: Uint8Array, fields: Readonly<Record<number, Field>>): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number] = reader.tag();
    const read = fields[number];
    if (!read) throw new Error(`field ${number} was not expected`);
    read(reader);
  }
}

function eventOf(bytes: Uint8Array): Event {
  const event: { -readonly [K in keyof Event]: Event[K] } = { step: Number.NaN };
  message(bytes, {
    1: (r) => expect(r.double()).to.be.within(1.7e9, 1e10),
    2: (r) => {
      event.step = Number(r.int64());
    },
    3: (r) => {
      event.version = r.string();
    },
    5: (r) => message(r.bytes(), { 1: (r) => readValue(r.bytes(), event) }),
    7: (r) =>
      message(r.bytes(), {
        1: (r) => {
          event.status = r.int32();
        },
      }),
  });
  return event;
}

function readValue(bytes: Uint8Array, event: { -readonly [K in keyof Event]: Event[K] }): void {
  let tag = "";
  message(bytes, {
    1: (r) => {
      tag = r.string();
    },
    2: (r) => {
      event.scalars = { ...event.scalars, [tag]: r.float() };
    },
    4: (r) => {
      event.images = { ...event.images, [tag]: imageOf(r.bytes()) };
    },
  });
}

function imageOf(bytes: Uint8Array): Image {
  const numbers: number[] = [];
  let encoded = new Uint8Array();
  const number = (r: BinaryReader) => numbers.push(r.int32());
  message(bytes, {
    1: number,
    2: number,
    3: number,
    4: (r) => {
      encoded = Uint8Array.from(r.bytes());
    },
  });
  const [height, width, colorspace] = numbers;
  return { height: height!, width: width!, colorspace: colorspace!, encoded };
}
