/** What the page says. */
import type { About } from "../messages.ts";

/** What the page is at. */
export type Phase = "opening" | "broken" | "gathering" | "training" | "pausing" | "paused" | "done";

export interface State {
  readonly phase: Phase;
  /** Images that are trained on, or gathered so far. */
  readonly images: number;
  readonly step: number;
  readonly steps: number;
  /** Images a step. */
  readonly batch: number;
  /** Step of the latest checkpoint. */
  readonly checkpoint?: number | undefined;
  /** Whether the worker has only found the checkpoint yet, and not read it. */
  readonly onlyStored: boolean;
}

/** What is still missing before training can start; undefined where nothing is. */
export function missing(
  { method, least }: Pick<About, "method" | "least">,
  images: number,
  batch: number,
): string | undefined {
  const more = (wanted: number) => `${count(wanted - images)} more`;
  if (images === 0) return `Bring images to start: ${method} needs ${count(least)} or more.`;
  if (images < least) return `${method} needs ${count(least)} images or more: ${more(least)}.`;
  if (images < batch)
    return `A step of ${count(batch)} images needs as many: ${more(batch)}, or fewer a step.`;
  return undefined;
}

/** Images a step where nothing else is asked for: an epoch has two steps or more, where the artifact allows it. */
export function usualBatch(least: number, images: number): number {
  if (images === 0) return USUAL;
  return Math.max(least, Math.min(Math.floor(images / 2), images < FEW ? USUAL / 2 : USUAL));
}
const USUAL = 64;
const FEW = 128;

/** Files that were not taken, in one line; empty where there are none. */
export function leftOutLine(unread: readonly string[], beyond: number, most: number): string {
  const named = unread.length > 3 ? [...unread.slice(0, 3), "…"] : unread;
  const broken = unread.length > 0 ? `${files(unread.length)} could not be read: ${named.join(", ")}.` : "";
  const many = beyond > 0 ? `${files(beyond)} left out: at most ${count(most)} images are taken.` : "";
  return [broken, many].filter((line) => line !== "").join(" ");
}

const files = (n: number): string => `${count(n)} ${n === 1 ? "file" : "files"}`;

/** With a comma between thousands. */
export const count = (n: number): string => n.toLocaleString("en");

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Of the exported file. */
export const fileName = ({ method, encoder, imageSize }: About): string =>
  `${method}-${encoder}-${imageSize}.onnx`;

export const backendIn = (backend: "webgpu" | "wasm", threads: number): readonly [string, string] =>
  backend === "webgpu"
    ? ["WebGPU", "this machine’s GPU"]
    : ["WebAssembly", threads === 1 ? "one thread" : `${threads} threads`];

/** What goes on, for those who look and those who listen; `wanting` is what is missing before a start. */
export function statusLine(
  { phase, images, step, steps, checkpoint, onlyStored }: State,
  wanting: string | undefined,
): string {
  const them = images === 1 ? "1 image" : `${count(images)} images`;
  switch (phase) {
    case "opening":
      return "Opening…";
    case "broken":
      return "";
    case "gathering":
      return wanting ?? `${them}: ready to start.`;
    case "training":
      return `Training on ${them}.`;
    case "pausing":
      return "Pausing after this step…";
    case "paused":
      return onlyStored
        ? `A training on ${them} is kept in this browser: step ${count(step)} of ${count(steps)}.`
        : `Paused after step ${count(step)}.${checkpoint === step ? " Its checkpoint outlasts a reload of this page." : ""}`;
    case "done":
      return `Trained for ${count(steps)} steps: the encoder is ready.`;
  }
}

/** On the button that does what comes next. */
export function actLabel({ phase, step, steps, onlyStored }: State): string {
  if (phase === "training" || phase === "pausing") return "Pause";
  if (phase !== "paused") return "Start";
  return onlyStored && step === steps ? "Open it again" : `Go on from step ${count(step)}`;
}
