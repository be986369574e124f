/** What is decoded: kept in memory as far as it goes, decoded again beyond that. */
import PQueue from "p-queue";
import { CLOSED } from "./ahead.ts";

export interface KeptOptions<T> {
  /** Of what was decoded. */
  readonly bytesOf: (value: T) => number;
  /** It is kept up to this many bytes. */
  readonly cacheBytes: number;
  /** Decodes at a time. */
  readonly concurrency: number;
}

export interface Kept<K, T> {
  /** What `decode` gives for the key, undefined if that cannot be decoded. A decode is queued before it returns. */
  get(key: K, decode: () => Promise<T | undefined>): T | undefined | Promise<T | undefined>;
  /** Decodes that wait reject; resolves when none runs any more. */
  close(): Promise<void>;
}

export function openKept<K, T>({ bytesOf, cacheBytes, concurrency }: KeptOptions<T>): Kept<K, T> {
  const queue = new PQueue({ concurrency });
  const kept = new Map<K, T>();
  const decoding = new Map<K, Promise<T | undefined>>();
  const broken = new Set<K>();
  let room = cacheBytes;
  let closed = false;

  function get(key: K, decode: () => Promise<T | undefined>) {
    if (broken.has(key)) return undefined;
    const known = kept.get(key) ?? decoding.get(key);
    if (known) return known;
    const job = queue.add(() => decoded(key, decode)).finally(() => decoding.delete(key));
    decoding.set(key, job);
    return job;
  }

  async function decoded(key: K, decode: () => Promise<T | undefined>): Promise<T | undefined> {
    if (closed) throw new Error(CLOSED);
    const value = await decode();
    if (value === undefined) {
      broken.add(key);
      return undefined;
    }
    // First come, first kept: each is used once an epoch, so none deserves another's place.
    const bytes = bytesOf(value);
    if (bytes <= room) {
      room -= bytes;
      kept.set(key, value);
    }
    return value;
  }

  async function close() {
    closed = true; // rather than clear the queue, which would leave promises open for ever
    await queue.onIdle();
    kept.clear();
  }

  return { get, close };
}
