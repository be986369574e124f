/** The page: shows what its worker does, and tells it what to do. */
import { duration } from "../../train/duration.ts";
import type { About, Answer, Backend, Neighbours, Request } from "../messages.ts";
import { openLossChart } from "./chart.ts";
import { keepCurve, keptCurve } from "./curve.ts";
import { part, say, show } from "./dom.ts";
import { type Gathered, gather } from "./gather.ts";
import { neighboursShown, viewsShown } from "./pictures.ts";
import { packed, unpacked } from "./squares.ts";
import { type InUse, useEncoder } from "./use.ts";
import { actLabel, backendIn, count, missing, type State, statusLine, usualBatch } from "./words.ts";

/** From when the worker has opened the artifact. */
interface Opened {
  readonly about: About;
  readonly gathered: Gathered;
  readonly inUse: InUse;
}

let state: State = { phase: "opening", images: 0, step: 0, steps: 0, batch: 0, onlyStored: false };
let opened: Opened | undefined;
/** Of the untrained encoder. */
let before: Neighbours | undefined;
let batchChosen = false;

const chart = openLossChart(part("curve-plot"));
const [batch, steps, seed] = ["batch", "steps", "seed"].map((id) => part(id, HTMLInputElement)) as [
  HTMLInputElement,
  HTMLInputElement,
  HTMLInputElement,
];
/** The page asks for all that it needs when it loads, and for nothing later. */
const sheet = fetch("sample.png").then((response) => response.blob());
sheet.catch(() => {}); // told when it is asked for
const worker = new Worker(held(new URL("worker.js", location.href)), { type: "module" });

/** A worker of a blob is held to the policy of this page; one of a file to that of its server, which may have none. */
function held(script: URL): string {
  return URL.createObjectURL(
    new Blob([`import ${JSON.stringify(script.href)};`], { type: "text/javascript" }),
  );
}

function send(request: Request, transfer: Transferable[] = []): void {
  say("failure", "");
  worker.postMessage(request, transfer);
}

function change(changes: Partial<State>): void {
  state = { ...state, ...changes };
  render();
}

function render(): void {
  const { phase } = state;
  const images = opened?.gathered.squares.length ?? 0;
  if (!batchChosen) batch.value = String(usualBatch(opened?.about.least ?? 2, images));
  const wanting = opened && missing(opened.about, images, batch.valueAsNumber || 0);
  const gathering = phase === "gathering";
  const stopped = phase === "paused" || phase === "done";
  say("status", statusLine(gathering ? { ...state, images } : state, wanting));
  show("images", gathering);
  show("training", phase !== "opening" && phase !== "broken");
  show("settings", gathering);
  show("progress", !gathering);
  show("act", phase !== "done");
  show("anew", stopped);
  show("encoder", stopped && !state.onlyStored);
  say("act", actLabel(state));
  part("act", HTMLButtonElement).disabled =
    phase === "pausing" || (gathering && (wanting !== undefined || opened?.gathered.busy === true));
  const done = part("done", HTMLProgressElement);
  done.max = state.steps || 1;
  done.value = state.step;
  say("step", count(state.step));
  say("of-steps", `of ${count(state.steps)}`);
  say("checkpoint", state.checkpoint === undefined ? "none yet" : `step ${count(state.checkpoint)}`);
}

/** Nothing is shown of a training any more. */
function clear(): void {
  before = undefined;
  for (const id of ["curve", "views", "neighbours"]) show(id, false);
  for (const id of ["to-go", "speed", "loss"]) say(id, "–");
}

function begin({ about, gathered, inUse }: Opened): void {
  const form = part("chosen", HTMLFormElement);
  if (!form.checkValidity()) {
    part("settings", HTMLDetailsElement).open = true;
    form.reportValidity();
    return;
  }
  const settings = { batch: batch.valueAsNumber, steps: steps.valueAsNumber, seed: seed.valueAsNumber };
  gathered.stop();
  clear();
  chart.begin(settings.steps);
  inUse.forget();
  inUse.offer(gathered.squares);
  const images = packed(gathered.squares, about.side);
  const fresh = { step: 0, checkpoint: undefined, onlyStored: false };
  change({ ...settings, ...fresh, phase: "training", images: images.names.length });
  send({ kind: "begin", images, settings }, [images.pixels.buffer]);
}

/** As far as the checkpoint that is gone on from. */
function restoreCurve(): void {
  chart.begin(state.steps);
  const { from, losses } = keptCurve() ?? { from: 1, losses: [] };
  losses.slice(0, Math.max(0, state.step + 1 - from)).forEach((loss, i) => {
    chart.add(from + i, loss);
  });
}

function act(): void {
  if (state.phase === "training") {
    change({ phase: "pausing" });
    send({ kind: "pause" });
  } else if (state.phase === "paused") {
    opened?.inUse.forget();
    if (state.onlyStored) restoreCurve();
    change({ phase: "training" });
    send({ kind: "resume" });
  } else if (opened) begin(opened);
}

const failed = (message: string) => say("failure", message);

/** What each answer changes. */
const takers: { [K in Answer["kind"]]: (answer: Extract<Answer, { kind: K }>) => void } = {
  opened({ about, backend, threads, note, stored }) {
    say("method", about.method);
    say("paper", about.paper);
    say("encoder-name", about.encoder);
    const start = about.run === undefined ? "random weights" : `weights of ${about.run}`;
    say("start", `${about.imageSize} px, from ${start}`);
    const [name, how] = backendIn(backend, threads);
    say("backend", name);
    say("threads", how);
    say("note", note ?? "");
    show("about", true);
    const gathered = gather(about.side, sheet, { changed: render, failed });
    opened = { about, gathered, inUse: useEncoder(about, { send, failed }) };
    clear();
    change({
      phase: stored ? "paused" : "gathering",
      ...stored,
      checkpoint: stored?.step,
      onlyStored: stored !== undefined,
    });
  },
  images({ images }) {
    if (!opened) return;
    opened.gathered.replace(unpacked(images));
    opened.inUse.offer(opened.gathered.squares);
    change({ images: images.names.length, onlyStored: false });
  },
  step({ step, steps, metrics: { loss }, imagesPerSecond: speed }) {
    if (loss !== undefined) chart.add(step, loss);
    show("curve", loss !== undefined);
    say("loss", loss?.toFixed(4) ?? "–");
    say("speed", speed.toFixed(speed < 10 ? 1 : 0));
    say("to-go", duration(((steps - step) * state.batch) / speed));
    change({ step, steps, phase: state.phase === "pausing" ? "pausing" : "training", onlyStored: false });
  },
  views(answer) {
    part("views-shown").replaceChildren(...viewsShown(answer));
    show("views", true);
  },
  neighbours({ when, step, found }) {
    if (!opened) return;
    if (when === "before") before = found;
    const { about, gathered } = opened;
    const place = part("neighbours-shown");
    place.replaceChildren(...neighboursShown(gathered.squares, about.side, before, found, step));
    place.classList.toggle("alone", before === undefined);
    show("neighbours", true);
  },
  checkpoint({ step }) {
    keepCurve(chart.curve);
    change({ checkpoint: step });
  },
  paused({ step, done }) {
    say("to-go", "–");
    change({ phase: done ? "done" : "paused", step, onlyStored: false });
  },
  encoder: (answer) => opened?.inUse.take(answer),
  found: (answer) => opened?.inUse.take(answer),
  forgotten() {
    clear();
    opened?.inUse.forget();
    change({ phase: "gathering", checkpoint: undefined, onlyStored: false });
  },
  failed: ({ message }) => fail(message),
};

/** Goes back to where one can go on from; a step that comes all the same shows that training does. */
function fail(message: string): void {
  failed(message);
  opened?.inUse.forget();
  const { phase, checkpoint } = state;
  if (phase === "opening") change({ phase: "broken" });
  if (phase !== "training" && phase !== "pausing") return;
  const onlyStored = checkpoint !== undefined;
  change({ phase: onlyStored ? "paused" : "gathering", step: checkpoint ?? 0, onlyStored });
}

worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
  (takers[data.kind] as (answer: Answer) => void)(data);
});
worker.addEventListener("error", (event) => {
  fail(`the worker has stopped: ${event.message ?? "it could not be loaded"}; reload the page`);
  change({ phase: "broken" });
});

part("act").addEventListener("click", act);
batch.addEventListener("input", () => {
  batchChosen = true;
  render();
});
part("chosen").addEventListener("submit", (event) => event.preventDefault());
const dialog = part("ask", HTMLDialogElement);
part("anew").addEventListener("click", () => {
  say(
    "question",
    `Start anew? The training up to step ${count(state.step)} is forgotten, with its checkpoint.`,
  );
  dialog.showModal();
});
part("no").addEventListener("click", () => dialog.close());
part("yes").addEventListener("click", () => {
  dialog.close();
  send({ kind: "forget" });
});
// A file that is dropped beside its place would be opened instead of the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());

render();
const asked = new URLSearchParams(location.search);
send({
  kind: "open",
  backend: (["webgpu", "wasm"] as const).find((name): name is Backend => name === asked.get("backend")),
  threads: Number(asked.get("threads")) || undefined,
});
