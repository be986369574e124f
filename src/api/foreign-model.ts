/** A third-party model in its sessions, run once, which tells the sizes of what it gives. */
import * as ort from "onnxruntime-node";
import { messageOf, UserError } from "../errors.ts";
import { type ForeignForm, type ForeignOptions, readForeign, shown } from "../export/foreign.ts";
import { type Feeds, openSession, type Session, type SessionOptions } from "../runtime/session.ts";
import type { ViewRecipe } from "../spec.ts";

export interface ForeignModel {
  readonly form: ForeignForm;
  /** Values that it gives besides its output. */
  readonly stages: readonly string[];
  /** What it gave for `n` images, by name. */
  readonly tried: { readonly n: number; readonly values: ReadonlyMap<string, Tried> };
  /** What makes the model's input of the centres of images [n, h, w, 3]. */
  readonly centres: Front;
  /** The same of views by a recipe. */
  viewsBy(recipe: ViewRecipe): Promise<Front>;
  /** What it gives, by name; for as many images as it takes. */
  valuesOf(front: Front, feeds: Feeds): Promise<Readonly<Record<string, ort.Tensor>>>;
  close(): Promise<void>;
}

export type Tried = Pick<ort.Tensor, "type" | "dims">;
export type Front = Pick<Session, "run">;

/** Images of the trial run, where the batch is free: of one the model might drop the axis unnoticed. */
const TRIED = 2;

/**
 * @param named its stages: names of values, or the "cut points" of its graph
 * @throws UserError if it cannot be taken (see `readForeign`) or does not run
 */
export async function openModel(
  bytes: Uint8Array,
  file: string,
  options: SessionOptions,
  asked: ForeignOptions,
  named: readonly string[] | "cut points",
): Promise<ForeignModel> {
  const { form, model: graph, stages, fronts } = await readForeign(bytes, file, asked, named);
  const { input, output, side, batch } = form;
  const opened: Session[] = [];
  const openOne = async (of: Uint8Array, own: SessionOptions) => {
    const session = await openSession(of, file, own);
    opened.push(session);
    return session;
  };
  const openFront = (of: Uint8Array) => openOne(of, { threads: options.threads });
  const close = async () => {
    for (const session of opened.splice(0)) await session.close();
  };
  try {
    const model = await openOne(graph, options);
    const centres = await openFront(fronts.centre());
    const outputs = [...new Set([...stages, output])];
    const valuesOf: ForeignModel["valuesOf"] = async (front, feeds) => {
      const { view } = await front.run(feeds);
      return model.run({ [input]: view! }, outputs).catch((error: unknown) => {
        throw new UserError(`${file}: expected a model that runs, found: ${messageOf(error)}`);
      });
    };
    const n = batch ?? TRIED;
    const black = new ort.Tensor("uint8", new Uint8Array(n * side ** 2 * 3), [n, side, side, 3]);
    const given = Object.entries(await valuesOf(centres, { images: black }));
    const values = new Map(given.map(([name, { type, dims }]) => [name, { type, dims }]));
    const viewsBy = (recipe: ViewRecipe) => openFront(fronts.drawn(recipe));
    return { form, stages, tried: { n, values }, centres, viewsBy, valuesOf, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Values that are listed. */
const LISTED = 8;

/**
 * Some of the values between a model's blocks that may be stages, with their sizes, as a list: the last of each size, and
 * others of the commonest size, evenly.
 * @throws UserError as `openModel`
 */
export async function stagesToName(
  bytes: Uint8Array,
  file: string,
  options: SessionOptions,
  asked: ForeignOptions = {},
): Promise<string> {
  const { stages, tried, close } = await openModel(bytes, file, options, asked, "cut points");
  await close();
  const found = stages.flatMap((name) => {
    const { type, dims } = tried.values.get(name)!;
    const [n, a, b, c] = dims;
    const isMap = b !== undefined && (c === undefined || b === c || a === b); // or tokens
    if (type !== "float32" || n !== tried.n || !isMap || dims.length > 4) return [];
    return [{ name, sizes: dims.slice(1).join(", ") }];
  });
  const groups = [...new Set(found.map(({ sizes }) => sizes))]
    .map((sizes) => found.filter((one) => one.sizes === sizes))
    .slice(-LISTED);
  const [commonest = []] = [...groups].sort((a, b) => b.length - a.length);
  const room = LISTED - groups.length;
  const evenly = Array.from(
    { length: room },
    (_, i) => commonest[Math.floor(((i + 1) * commonest.length) / (room + 1))],
  );
  const chosen = new Set([...groups.map((group) => group.at(-1)), ...evenly]);
  return found
    .filter((one) => chosen.has(one))
    .map(({ name, sizes }) => `${shown(name)} [n, ${sizes}]`)
    .join(", ");
}
