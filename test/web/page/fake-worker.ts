/**
 * Speaks as the page's worker does, and trains nothing: losses are drawn, neighbours are those of the nearest mean color.
 * What it should do otherwise is in `FAKE`, a line before it.
 */
import type { Answer, Neighbours, Request, Settings, Squares } from "../../../src/web/messages.ts";

declare const FAKE: {
  /** A note of the slower path. */
  readonly note?: string;
  readonly least?: number;
  /** Said in place of an answer to this kind of request. */
  readonly fails?: { readonly kind: Request["kind"]; readonly message: string };
  /** A place to ask for something, before it opens. */
  readonly asks?: string;
  /** A step that fails the first time. */
  readonly breaksAt?: number;
  /** Of a step, milliseconds. */
  readonly pace?: number;
};

const SIZE = 32;
const STORE = "fake";
const say = (answer: Answer) => postMessage(answer);

interface Training {
  readonly images: Squares;
  readonly settings: Settings;
  step: number;
}
let training: Training | undefined;
let going = false;
let broken = false;

/** Means of an image's colors, [3]. */
function meanOf({ pixels, side }: Squares, image: number): number[] {
  const sums = [0, 0, 0];
  const size = 3 * side * side;
  for (let i = 0; i < size; i++) sums[i % 3]! += pixels[image * size + i]! / (side * side);
  return sums;
}

/** Of each query the nearest others; the untrained encoder knows red alone. */
function neighbours(images: Squares, when: "before" | "now"): Neighbours {
  const n = images.names.length;
  const queries = Array.from({ length: Math.min(12, n) }, (_, i) => Math.floor((i * n) / Math.min(12, n)));
  const means = images.names.map((_, i) => meanOf(images, i).slice(0, when === "now" ? 3 : 1));
  return { queries, nearest: queries.map((query) => nearestTo(means[query]!, means, 5, query)) };
}

function nearestTo(wanted: number[], means: number[][], count: number, but?: number): number[] {
  const far = means.map((mean) => mean.reduce((sum, value, c) => sum + (value - wanted[c]!) ** 2, 0));
  return [...means.keys()]
    .filter((i) => i !== but)
    .sort((a, b) => far[a]! - far[b]!)
    .slice(0, count);
}

/** Two views: the images' first pixels, and the same mirrored and darker. */
function views({ pixels, side, names }: Squares): Answer {
  const rows = Math.min(12, names.length);
  const shown = [false, true].map((mirrored) => {
    const made = new Uint8Array(rows * SIZE * SIZE * 3);
    for (let i = 0; i < made.length; i++) {
      const [c, x, y, row] = [
        i % 3,
        ((i / 3) | 0) % SIZE,
        ((i / 3 / SIZE) | 0) % SIZE,
        (i / 3 / SIZE / SIZE) | 0,
      ];
      const from = 3 * ((row * side + y) * side + (mirrored ? SIZE - 1 - x : x)) + c;
      made[i] = pixels[from]! * (mirrored ? 0.6 : 1);
    }
    return { size: SIZE, pixels: made };
  });
  return { kind: "views", rows, views: shown };
}

const folder = () => navigator.storage.getDirectory();

async function store({ images, settings, step }: Training): Promise<void> {
  const file = await (await folder()).getFileHandle(STORE, { create: true });
  const writing = await file.createWritable();
  const head = new TextEncoder().encode(
    JSON.stringify({ settings, step, side: images.side, names: images.names }),
  );
  await writing.write(new Uint32Array([head.length]));
  await writing.write(head);
  await writing.write(images.pixels as Uint8Array<ArrayBuffer>);
  await writing.close();
  say({ kind: "checkpoint", step });
}

async function stored(): Promise<Training | undefined> {
  const file = await (await folder()).getFileHandle(STORE).catch(() => undefined);
  if (!file) return undefined;
  const bytes = new Uint8Array(await (await file.getFile()).arrayBuffer());
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const { settings, step, side, names } = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  return { settings, step, images: { side, names, pixels: bytes.slice(4 + length) } };
}

async function train(now: Training): Promise<void> {
  going = true;
  const { steps, batch, seed } = now.settings;
  while (going && now.step < steps) {
    await new Promise((resolve) => setTimeout(resolve, FAKE.pace ?? 1));
    if (now.step + 1 === FAKE.breaksAt && !broken) {
      going = false;
      broken = true;
      return say({ kind: "failed", message: "a step failed: no memory" });
    }
    const step = ++now.step;
    const loss = 1.2 + 3 / (1 + step / 40) + 0.3 * Math.sin(12.9898 * (step + seed));
    say({ kind: "step", step, steps, metrics: { loss }, imagesPerSecond: 40 * batch });
    if (step % 20 === 1) say(views(now.images));
    if (step % 50 === 0) {
      say({ kind: "neighbours", when: "now", step, found: neighbours(now.images, "now") });
      await store(now);
    }
  }
  going = false;
  await store(now);
  say({ kind: "paused", step: now.step, done: now.step >= steps });
}

async function answer(request: Request): Promise<void> {
  if (FAKE.fails?.kind === request.kind) return say({ kind: "failed", message: FAKE.fails.message });
  switch (request.kind) {
    case "open": {
      if (FAKE.asks !== undefined) await fetch(FAKE.asks);
      const found = await stored();
      const about = { method: "simclr", paper: "arXiv 2002.05709", encoder: "resnet20", imageSize: SIZE };
      return say({
        kind: "opened",
        about: { ...about, side: 40, least: FAKE.least ?? 8 },
        backend: FAKE.note === undefined ? "webgpu" : "wasm",
        threads: 1,
        note: FAKE.note,
        stored: found && {
          step: found.step,
          steps: found.settings.steps,
          images: found.images.names.length,
          batch: found.settings.batch,
        },
      });
    }
    case "begin": {
      training = { images: request.images, settings: request.settings, step: 0 };
      say({ kind: "neighbours", when: "before", step: 0, found: neighbours(training.images, "before") });
      return train(training);
    }
    case "resume":
      training = await stored();
      if (!training) return say({ kind: "failed", message: "nothing is stored" });
      say({ kind: "images", images: training.images });
      return train(training);
    case "pause":
      going = false;
      return;
    case "export":
      return say({
        kind: "encoder",
        bytes: new Uint8Array(1_100_000).fill(7),
        maxRelative: 3.2e-7,
        step: training?.step ?? 0,
      });
    case "find": {
      const { images } = training!;
      const means = images.names.map((_, i) => meanOf(images, i));
      const asked = request.images.names.map((_, i) => meanOf(request.images, i));
      return say({
        kind: "found",
        features: asked.map((mean) => Float32Array.from(mean)),
        nearest: {
          queries: [...asked.keys()],
          nearest: asked.map((mean) => nearestTo(mean, means, request.count)),
        },
      });
    }
    case "forget":
      await (await folder()).removeEntry(STORE);
      training = undefined;
      return say({ kind: "forgotten" });
  }
}

addEventListener("message", ({ data }: MessageEvent<Request>) => {
  answer(data).catch((error) => say({ kind: "failed", message: String(error) }));
});
