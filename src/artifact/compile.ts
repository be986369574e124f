/** Method + encoder + optimizer -> the graphs and the manifest of a training artifact. */
import { audioEncoderNamed, encoderNamed } from "../encoders/index.ts";
import { mapsOf } from "../encoders/maps.ts";
import { expected } from "../errors.ts";
import { divideDims, multiplyDims } from "../graph/dims.ts";
import { buildModel, OPSET } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input, inScope, type Tensor } from "../graph/tensor.ts";
import { chunksFor, encoderChunks, type Values } from "../lowering/cpu/chunks.ts";
import { cpu } from "../lowering/cpu/index.ts";
import { cuda } from "../lowering/cuda.ts";
import { methodNamed } from "../methods/index.ts";
import type { AudioSettings, Method, Step } from "../methods/method.ts";
import type { Scope } from "../nn/scope.ts";
import { cut } from "../ops/pieces.ts";
import { builtFor, portable, type Target, target } from "../ops/target.ts";
import type { AudioEntry, Dim, JsonObject, Least, Manifest, TargetName } from "../spec.ts";
import { VIEW_COLUMNS } from "../spec.ts";
import { augment, isLarge } from "../views/augment.ts";
import { type ArtifactSpec, optimizerOf, type ResolvedSpec, resolveSpec } from "./artifact-spec.ts";
import {
  AUDIO,
  audioInput,
  encodeAudio,
  encodeAudioGraph,
  encodeGraph,
  imagesInput,
  stagesOf,
} from "./encode.ts";
import type { Graphs } from "./files.ts";
import { writableInPlace } from "./in-place.ts";
import { leastOf, type Wanted } from "./least.ts";
import { TrainingScope } from "./scope.ts";
import { encodeParts, nextOf, stepInParts, trainingStep } from "./step.ts";

export interface CompiledArtifact<G = Graphs & { readonly step: Uint8Array }> {
  readonly manifest: Omit<Manifest, "files">;
  readonly graphs: G;
}

/** A target by name; `pieces` are for the CPU alone (see `piecesFor`). */
export function targetNamed(name: TargetName, pieces: number): Target {
  if (name === "cpu") return cpu(pieces);
  return name === "cuda" ? cuda : portable;
}

/** The chunks for a step of `batch` images on a CPU, a power of two. */
export function piecesFor(spec: ArtifactSpec, batch: number): number {
  const resolved = resolveSpec(spec);
  const method = methodNamed(spec.method);
  // Detectors take few images at a time, whose maps the pyramid reads whole: a step in chunks was no faster.
  if (method.detect) return 1;
  return chunksFor(batch, valuesOf(resolved), multipleOf(method, resolved.method.config));
}

/** What the method wants the number of images to be a multiple of. */
const multipleOf = ({ batchMultiple: key }: Method<unknown>, config: JsonObject): number =>
  key === undefined ? 1 : (config[key] as number);

/** For an image: values of its large views, and of the widest feature map that the encoder computes from one. */
function valuesOf({ method, encoder }: ResolvedSpec): Values {
  const { name, imageSize } = encoder;
  const viewed = methodNamed(method.name)
    .views(method.config as never, imageSize)
    .filter(({ size }) => isLarge(size))
    .reduce((sum, { size }) => sum + 3 * size ** 2, 0);
  return { viewed, widest: encoderNamed(name).widest(imageSize) };
}

/** The step as one graph, in the target's forms. Whatever the target, it computes the same and has the same state. */
export const compile = (spec: ArtifactSpec, target = portable): CompiledArtifact =>
  builtFor(target, () => compileWhole(spec));

function compileWhole(spec: ArtifactSpec): CompiledArtifact {
  const opened = openStep(spec);
  const name = nameOf(spec);
  const { step, outputs, inputs } = buildStep(spec, opened);
  const { late, stated } = target();
  const graph = encodeModel(buildModel(outputs, { name: `${name}-step`, inputs, late, stated }));
  const whole = opened.scope.all.filter(({ rows }) => !rows);
  const next = new Map(whole.map((s) => [s.tensor, s.next ?? s.tensor]));
  const written = writableInPlace(next, Object.values(outputs), { rests: spec.precision !== undefined });
  return {
    manifest: manifestOf(name, opened, step, { least: leastFor(opened, outputs), written }),
    graphs: { step: graph, ...encoderGraphs(spec, name) },
  };
}

/**
 * The step in parts, which takes micro-batches of a batch larger than memory. @throws UserError if the method does
 * not allow it.
 */
export const compileInParts = (spec: ArtifactSpec, target = portable): CompiledArtifact<Graphs> =>
  builtFor({ ...target, pieces: 1 }, () => compileParts(spec)); // a part of a batch is small already

function compileParts(spec: ArtifactSpec): CompiledArtifact<Graphs> {
  if (spec.precision)
    // Parts write queues and averages before the last gradient, which might be infinite, is known.
    throw expected("--micro-batch", "a step whose loss is not scaled", `precision ${spec.precision}`);
  const opened = openStep(spec);
  const { scope, method, config, perImage } = opened;
  const name = `${nameOf(spec)}-parts`;
  const { step, parts } = stepInParts(scope, method, config, optimizerOf(spec), perImage);
  const graphs = { ...encodeParts(parts, name), ...encoderGraphs(spec, name) };
  const least = leastFor(opened, parts.contrast.outputs, parts.contrast.options.given);
  const leastOfPart = leastOf(Object.values(parts.embed.outputs));
  return { manifest: manifestOf(name, opened, step, { least, leastOfPart }), graphs };
}

function encoderGraphs(spec: ArtifactSpec, name: string): Graphs {
  const { config } = resolveSpec(spec).method;
  const encodeAudio = encodeAudioGraph({ ...spec, config }, name);
  return { encode: encodeGraph({ ...spec, config }, name), ...(encodeAudio && { encodeAudio }) };
}

/** Of a batch, by what the outputs need and what the method does. */
const leastFor = ({ method, batchMultiple: unit }: Opened, outputs: Tensors, given?: Wanted["given"]) =>
  leastOf(Object.values(outputs), { unit, splits: method.batchMultiple, least: method.least, given });

/** What is known of a step once it is built. */
interface Built {
  readonly least: Least | undefined;
  readonly leastOfPart?: Least | undefined;
  /** What is written in place. */
  readonly written?: ReadonlySet<Tensor>;
}

const nameOf = ({ method, encoder, imageSize }: ArtifactSpec): string => `${method}-${encoder}-${imageSize}`;

function manifestOf(
  name: string,
  { resolved, method, config, scope, recipes, audio, batchMultiple }: Opened,
  step: Step,
  { least, leastOfPart, written = new Set() }: Built,
): Omit<Manifest, "files"> {
  return {
    format: 1,
    name,
    opset: OPSET,
    ...resolved,
    target: target().name,
    pieces: target().pieces,
    views: recipes.map((recipe, i) => ({ input: viewInput(i), recipe })),
    ...(audio && { audio: audioEntry(audio) }),
    permutations: [...scope.permutations.keys()],
    ...scope.supervision.entries,
    batchMultiple,
    ...(method.batchMultiple && { multipleOf: method.batchMultiple }),
    ...(least && { least }),
    ...(leastOfPart && { leastOfPart }),
    ...(method.chance && { chance: method.chance(config) }),
    scalars: scope.scalars.map(({ tensor, ...entry }) => entry),
    state: scope.all.map(({ name, role, dtype, shape, init, rows, tensor }) => {
      const kept = { name, role, dtype, shape, init, next: nextOf(name) };
      return { ...kept, ...(written.has(tensor) && { inPlace: true }), ...(rows && { rows }) };
    }),
    metrics: ["loss", ...Object.keys(step.metrics)],
    embedding: "embedding",
  };
}

function audioEntry({ rate, samples, volume, encoder, embedding }: AudioSettings): AudioEntry {
  const { name, features } = audioEncoderNamed(encoder);
  return { input: AUDIO, rate, samples, volume, encoder: { name, features }, embedding };
}

type Tensors = Readonly<Record<string, Tensor>>;

const viewInput = (i: number): string => `view${i}`;

/** The views of a step, and the scope that its method builds in. */
export function openStep(spec: ArtifactSpec) {
  const resolved = resolveSpec(spec);
  const method = methodNamed(spec.method);
  const config = resolved.method.config as never;
  const recipes = method.views(config, spec.imageSize);
  const batchMultiple = multipleOf(method, config) * target().pieces;
  const n = multiplyDims(batchMultiple, "n");
  const images = imagesInput(n); // [n, h, w, 3]
  const params = recipes.map((_, i) => input(viewInput(i), "float32", [n, VIEW_COLUMNS.length]));
  const views = inScope("views", () => augment(images, params, recipes, target().pieces)); // [n, 3, s, s] each
  const audio = method.audio?.(config);
  const heard = audio && audioInput(n, audio); // [n, samples]
  const scope = new TrainingScope({
    ...{ views, params, encode: encoderOf(spec, n), maps: mapsOfViews(spec), stages: () => stagesOf(spec) },
    ...(audio && { audio: heard, encodeAudio: (s: Scope, part: Tensor) => encodeAudio(s, part, audio) }),
  });
  const perImage = [images, ...params, ...(heard ? [heard] : [])];
  return { resolved, method, config, scope, recipes, audio, batchMultiple, perImage };
}
type Opened = ReturnType<typeof openStep>;

/** The tensors of a training step: views, forward, backward and update. */
export function buildStep(spec: ArtifactSpec, opened: Opened = openStep(spec)) {
  const { scope, method, config, perImage } = opened;
  const { step, outputs, inputs } = trainingStep(scope, method, config, optimizerOf(spec), spec.precision);
  return { step, outputs, inputs: [...perImage, ...inputs] };
}

/** The encoder's own form for the image size, whatever the size of the views. */
const wholeEncoder =
  ({ encoder, imageSize }: ArtifactSpec) =>
  (s: Scope, views: Tensor): Tensor =>
    encoderNamed(encoder).build(s, views, imageSize); // [rows, d]

/** Its last stages as maps [n, c, h, w], of views that are not in pieces. */
const mapsOfViews =
  ({ encoder, imageSize }: ArtifactSpec) =>
  (s: Scope, views: Tensor): readonly Tensor[] =>
    mapsOf(encoderNamed(encoder).stages(s, views, imageSize));

/** The same in the target's chunks, for views of n images each. */
function encoderOf(spec: ArtifactSpec, n: Dim) {
  const { imageSize } = spec;
  const { pieces, viewByView } = target();
  const encode = wholeEncoder(spec);
  const chunks = encoderChunks(pieces, valuesOf(resolveSpec(spec)));
  return (s: Scope, views: Tensor): Tensor => {
    const [rows, , size] = views.shape as [Dim, number, number];
    // Of one view of some images each, or of as many small ones as hold as many pixels.
    const each = viewByView ? divideDims(rows, n) : 1; // views of an image
    const most = typeof each === "number" ? each * chunks : 1;
    return encode(s, cut(views, divisor(most, most * (size / imageSize) ** 2))); // [rows, d]
  };
}

/** The greatest divisor of a number up to `limit`. */
function divisor(of: number, limit: number): number {
  let found = Math.max(1, Math.floor(limit));
  while (of % found !== 0) found--;
  return found;
}
