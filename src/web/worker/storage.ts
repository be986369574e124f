/**
 * Checkpoints in the page's own storage, the Origin Private File System. The images are written once; of the state two
 * files take turns, so that a reload in the middle of a write leaves the one before. Each ends with its SHA-256: what was cut
 * off or damaged is not read.
 */
import * as z from "zod";
import { expected, messageOf } from "../../errors.ts";
import { decodeSafetensors, encodeSafetensors, parseJson } from "../../files/safetensors.ts";
import type { StateMap } from "../../runtime/state.ts";
import type { Neighbours, Settings, Squares, Stored } from "../messages.ts";

export interface Checkpoint extends Settings {
  /** Steps done. */
  readonly step: number;
  /** Of images trained on. */
  readonly images: number;
  /** Neighbours by the untrained encoder. */
  readonly before: Neighbours | undefined;
}

export interface Storage {
  /** The latest checkpoint that is whole. @throws UserError if there are but damaged ones */
  found(): Promise<Stored | undefined>;
  /** @throws UserError if there is none, or something of it is damaged */
  load(): Promise<{ checkpoint: Checkpoint; state: StateMap; images: Squares }>;
  /** Drops what is stored, and stores the images of a new training. */
  begin(images: Squares): Promise<void>;
  save(checkpoint: Checkpoint, state: StateMap): Promise<void>;
  clear(): Promise<void>;
}

const IMAGES = "images.safetensors";
const SLOTS = ["state-0.safetensors", "state-1.safetensors"] as const;
const DIGEST_BYTES = 32;

const count = z
  .int()
  .min(0)
  .max(2 ** 31);
const checkpointSchema = z.strictObject({
  step: count,
  steps: count.min(1),
  batch: count.min(1),
  seed: z.int(),
  images: count.min(1),
  before: z
    .strictObject({ queries: z.array(count).max(100), nearest: z.array(z.array(count).max(100)).max(100) })
    .optional(),
});
const namesSchema = z.array(z.string().max(4096)).max(2 ** 20);

/**
 * The storage of trainings of what `key` names. It is this worker's alone until the page is closed.
 * @throws UserError if the browser has none for this page, or another tab has it
 */
export async function openStorage(key: string | undefined): Promise<Storage> {
  if (key === undefined)
    throw expected("storage", "a page from this machine or through HTTPS", "another", KEPT);
  await lock(key);
  const root = await navigator.storage.getDirectory().catch((error) => {
    throw expected("storage", "a browser that stores files of pages", messageOf(error), KEPT);
  });
  const folder = await root.getDirectoryHandle(`ort-pretrain-${key}`, { create: true });
  let next = 0; // the slot to write to: not the latest one

  /** The newest whole checkpoint. */
  async function latest() {
    const files = await Promise.all(SLOTS.map((name) => readWhole(folder, name)));
    const whole = files.flatMap((bytes, slot) =>
      bytes instanceof Uint8Array ? [{ slot, ...checkpointIn(bytes, SLOTS[slot]!) }] : [],
    );
    const best = whole.sort((a, b) => b.checkpoint.step - a.checkpoint.step)[0];
    if (best) next = 1 - best.slot;
    else if (files.includes("damaged")) throw expected("storage", "a checkpoint", "a damaged one", ANEW);
    return best;
  }

  async function clear() {
    // State first: it is of no use without its images, and images are not looked for without it.
    for (const name of [...SLOTS, IMAGES])
      await folder.removeEntry(name).catch((error: DOMException) => {
        if (error.name !== "NotFoundError") throw error;
      });
    next = 0;
  }

  return {
    async found() {
      const found = await latest();
      if (!found) return undefined;
      const { step, steps, images, batch } = found.checkpoint;
      return { step, steps, images, batch };
    },
    async load() {
      const found = await latest();
      const bytes = await readWhole(folder, IMAGES);
      if (!found || !(bytes instanceof Uint8Array))
        throw expected("storage", "a checkpoint and its images", `${bytes ?? "none"}`, ANEW);
      const images = imagesIn(bytes);
      if (images.names.length !== found.checkpoint.images)
        throw expected("storage", `${found.checkpoint.images} images`, `${images.names.length}`, ANEW);
      return { checkpoint: found.checkpoint, state: found.state, images };
    },
    async begin({ side, pixels, names }) {
      await clear();
      const shape = [names.length, side, side, 3];
      const tensors = new Map([["images", { dtype: "uint8" as const, shape, data: pixels }]]);
      await writeWhole(folder, IMAGES, encodeSafetensors(tensors, { names: JSON.stringify(names) }));
    },
    async save(checkpoint, state) {
      const bytes = encodeSafetensors(state, { checkpoint: JSON.stringify(checkpoint) });
      await writeWhole(folder, SLOTS[next]!, bytes);
      next = 1 - next;
    },
    clear,
  };
}

const KEPT = "training runs all the same, but a reload ends it";
const ANEW = "start anew";
/** The page that was there before a reload may be a moment in going. */
const PATIENCE_MS = 3000;

/** Held for good: two tabs would write over each other's checkpoints. */
function lock(key: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const held = () => {
      resolve();
      return new Promise<void>(() => {});
    };
    navigator.locks
      .request(`ort-pretrain-${key}`, { signal: AbortSignal.timeout(PATIENCE_MS) }, held)
      .catch(() => reject(expected("storage", "one tab with this page", "another one open", KEPT)));
  });
}

function checkpointIn(bytes: Uint8Array, where: string): { checkpoint: Checkpoint; state: StateMap } {
  const { tensors, metadata } = decodeSafetensors(bytes, where);
  const json = parseJson(new TextEncoder().encode(metadata.checkpoint), where);
  const parsed = checkpointSchema.safeParse(json);
  if (!parsed.success) throw expected(where, "a checkpoint", "something else", ANEW);
  const { before, ...rest } = parsed.data;
  const shown = [before?.queries ?? [], ...(before?.nearest ?? [])].flat();
  if (rest.step > rest.steps || shown.some((index) => index >= rest.images))
    throw expected(where, "a checkpoint of its own images", "another", ANEW);
  return { checkpoint: { ...rest, before }, state: tensors };
}

function imagesIn(bytes: Uint8Array): Squares {
  const { tensors, metadata } = decodeSafetensors(bytes, IMAGES);
  const names = namesSchema.safeParse(parseJson(new TextEncoder().encode(metadata.names), IMAGES));
  const { dtype, shape = [], data } = tensors.get("images") ?? {};
  const [n, side] = shape;
  if (dtype !== "uint8" || !names.success || n !== names.data.length || !side || shape[2] !== side)
    throw expected(IMAGES, "squares with names", "something else", ANEW);
  return { side, pixels: data as Uint8Array, names: names.data };
}

async function writeWhole(
  folder: FileSystemDirectoryHandle,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const handle = await folder.getFileHandle(name, { create: true });
  const file = await handle.createSyncAccessHandle();
  try {
    file.truncate(0);
    const written = file.write(bytes, { at: 0 }) + file.write(digest, { at: bytes.length });
    if (written !== bytes.length + DIGEST_BYTES)
      throw expected("storage", `room for ${bytes.length} bytes`, "less", "free some space");
    file.flush();
  } finally {
    file.close();
  }
}

async function readWhole(
  folder: FileSystemDirectoryHandle,
  name: string,
): Promise<Uint8Array<ArrayBuffer> | "damaged" | undefined> {
  const handle = await folder.getFileHandle(name).catch(() => undefined);
  if (!handle) return undefined;
  const all = new Uint8Array(await (await handle.getFile()).arrayBuffer());
  const bytes = all.subarray(0, Math.max(0, all.length - DIGEST_BYTES));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return digest.every((byte, i) => byte === all[bytes.length + i]) ? bytes : "damaged";
}
