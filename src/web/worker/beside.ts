/** What lies beside the worker: the artifact, the graph of its views, and weights to begin with. */
import { parseManifest } from "../../artifact/schema.ts";
import { expected } from "../../errors.ts";
import { decodeSafetensors } from "../../files/safetensors.ts";
import { type StateMap, shapeIn } from "../../runtime/state.ts";
import type { Manifest } from "../../spec.ts";
import type { About, Backend } from "../messages.ts";

export interface Beside {
  readonly manifest: Manifest;
  /** In the form that each backend computes fastest. */
  readonly steps: Readonly<Record<Backend, Uint8Array>>;
  readonly encode: Uint8Array;
  /** See `picturesGraph`. */
  readonly views: Uint8Array;
  /** Tensors in place of those that would be drawn. */
  readonly first: StateMap;
  /** The run that those are of; undefined where there are none. */
  readonly run: string | undefined;
  /** What a checkpoint is of: SHA-256 of the manifest and the first weights. Undefined where a page may not store any. */
  readonly key: string | undefined;
}

/** Reads all of it, so that nothing is asked for later. @throws UserError if something is missing or damaged */
export async function readBeside(base: string): Promise<Beside> {
  const read = async (file: string): Promise<Uint8Array<ArrayBuffer>> => {
    const answer = await fetch(new URL(file, base)).catch(() => undefined);
    if (!answer?.ok)
      throw expected(file, "it beside the page", answer ? `status ${answer.status}` : "no answer", RELOAD);
    return new Uint8Array(await answer.arrayBuffer());
  };
  const manifestBytes = await read("manifest.json");
  const manifest = parseManifest(manifestBytes, "manifest.json");
  const graph = async (which: "step" | "encode") => {
    const wanted = manifest.files[which];
    if (!wanted) throw expected("manifest.json", `a graph ${which}`, "none", "write the page again");
    const bytes = await read(wanted.file);
    if (bytes.length !== wanted.bytes)
      throw expected(wanted.file, `the manifest's ${wanted.bytes} bytes`, `${bytes.length}`, RELOAD);
    return bytes;
  };
  const [webgpu, wasm, encode, views, state] = await Promise.all([
    graph("step"),
    read("step-wasm.onnx"),
    graph("encode"),
    read("views.onnx"),
    read("state.safetensors"),
  ]);
  const { tensors: first, metadata } = decodeSafetensors(state, "state.safetensors");
  checkFirst(manifest, first);
  const key = await keyOf(manifestBytes, state);
  return { manifest, steps: { webgpu, wasm }, encode, views, first, run: metadata.run, key };
}

const RELOAD = "reload the page, or write it again";

function checkFirst(manifest: Manifest, first: StateMap): void {
  for (const [name, { dtype, shape }] of first) {
    const entry = manifest.state.find((s) => s.name === name);
    const wanted = entry && !entry.rows && `${entry.dtype} [${shapeIn(entry, 0)}]`;
    if (wanted !== `${dtype} [${shape}]`)
      throw expected(`state.safetensors: ${name}`, wanted || "no such tensor", `${dtype} [${shape}]`);
  }
}

/** Browsers compute digests where the page is from this machine, or came through HTTPS; nothing is stored elsewhere. */
async function keyOf(...parts: readonly Uint8Array<ArrayBuffer>[]): Promise<string | undefined> {
  if (!globalThis.crypto?.subtle) return undefined;
  const digests = await Promise.all(parts.map((part) => crypto.subtle.digest("SHA-256", part)));
  const joined = new Uint8Array(await new Blob(digests).arrayBuffer());
  return hex(await crypto.subtle.digest("SHA-256", joined));
}

const hex = (digest: ArrayBuffer): string =>
  Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");

export function aboutOf({ manifest, run }: Beside): About {
  const { method, encoder, batchMultiple, least, state } = manifest;
  // Negatives of a memory bank are images outside of the batch: as many as a batch.
  const times = state.some(({ rows }) => rows) ? 2 : 1;
  return {
    method: method.name,
    paper: method.paper,
    encoder: encoder.name,
    imageSize: encoder.imageSize,
    side: encoder.side,
    least: times * Math.ceil((least?.images ?? 1) / batchMultiple) * batchMultiple,
    run,
  };
}
