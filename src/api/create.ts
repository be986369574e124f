/** What a run is told, and the folder of a new one. */
import { resolve } from "node:path";
import type { ArtifactSpec } from "../artifact/compile.ts";
import { type Artifact, beginArtifact, readArtifact } from "../artifact/files.ts";
import { typicalSide } from "../data/sizes.ts";
import { countOf, fingerprint, type Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { memoryBytes } from "../machine.ts";
import { type ProviderChoice, providerFor } from "../runtime/providers.ts";
import type { Provider } from "../runtime/session.ts";
import type { Engine } from "../runtime/training-web.ts";
import type { JsonObject, Precision } from "../spec.ts";
import { batchOf, usualBatch } from "../train/batch.ts";
import { checkNoRun, type RunConfig, type Supervision } from "../train/run-folder.ts";
import { artifactFor, loaded, lowered, targetOf } from "./artifacts.ts";
import { flagOf, refuseOtherThan } from "./compare.ts";
import { imagesForKnn } from "./evaluation.ts";
import { type FirstWeights, firstWeights } from "./init.ts";
import { askedPositives, checkMethod, findItems, type PositivesOptions } from "./positives.ts";
import { refuseUnfit, scaledFor } from "./precision.ts";
import { recipeNamed } from "./recipes.ts";
import { withAudio } from "./run-sources.ts";
import { openSeen } from "./seen.ts";
import { findTraining, type Training } from "./supervised.ts";
import { versions } from "./versions.ts";
import { longerSideFor, shorterSideFor } from "./views.ts";

export interface TrainOptions extends PositivesOptions {
  /** Folder of images, searched recursively, or a list of them (.txt); labels, if any, are ignored. Needed unless `resume`. */
  readonly data?: string | undefined;
  /** The run's folder; must not hold a run already, unless `resume`. */
  readonly out: string;
  /** Published settings by name; what else is given here goes before them. */
  readonly recipe?: string | undefined;
  /** @default "simclr" */
  readonly method?: string | undefined;
  /** @default "resnet18" */
  readonly encoder?: string | undefined;
  /** Height and width of the views, pixels. @default that of `IMAGE_SIZES` which is next to the images' own */
  readonly imageSize?: number | undefined;
  /** Settings of the method. */
  readonly config?: JsonObject | undefined;
  /** "sgd", "lars" or "adamw", or all settings of one. @default the encoder's or the method's */
  readonly optimizer?: ArtifactSpec["optimizer"];
  /** Folder of an artifact to train, in place of method, encoder, imageSize, config and optimizer. */
  readonly graph?: string | undefined;
  /** @default 100 */
  readonly epochs?: number | undefined;
  /** In place of epochs; 0 exports the encoder as initialised. */
  readonly steps?: number | undefined;
  /**
   * Images a step. @default 256, or 64 where views are larger than 64 pixels; or all if there are fewer, half of them
   * where negatives come of a memory bank
   */
  readonly batch?: number | undefined;
  /** Images at a time, for a batch larger than memory; the loss stays that of the whole batch. @default all */
  readonly microBatch?: number | undefined;
  /** Peak learning rate. @default the artifact's, times batch / 256 */
  readonly lr?: number | undefined;
  readonly weightDecay?: number | undefined;
  readonly warmupEpochs?: number | undefined;
  /** @default 0 */
  readonly seed?: number | undefined;
  /** Takes a fixed sample of this many images, balanced over the folders of classes if there are any. */
  readonly limit?: number | undefined;
  /** Steps between two checkpoints. @default an epoch's */
  readonly checkpointEvery?: number | undefined;
  /** Memory for decoded images, MB. @default 2048, or a quarter of all memory if that is less */
  readonly cacheMb?: number | undefined;
  /** "auto" takes the first of cuda, webgpu and cpu that works. @default "cpu" */
  readonly provider?: ProviderChoice | undefined;
  /**
   * What computes the steps: ONNX Runtime for Node, or its own training build for the web, which is portable and slower.
   * @default "node"
   */
  readonly engine?: Engine | undefined;
  /** Which of several GPUs, of the CUDA provider. @default 0 */
  readonly device?: number | undefined;
  /** A folder to look for CUDA's libraries in first. @default ORT_PRETRAIN_CUDA_LIBRARIES of the environment */
  readonly cudaLibraries?: string | undefined;
  /** Asks CUDA for kernels that give the same bytes each time; on the CPU it is always so. @default false */
  readonly deterministic?: boolean | undefined;
  /**
   * Of products on CUDA; in "bf16" and "fp16" feature maps are too, and for the latter the loss is scaled. Elsewhere all is
   * "fp32". @default "tf32" on CUDA
   */
  readonly precision?: Precision | undefined;
  /** True for precision "tf32", false for "fp32". */
  readonly tf32?: boolean | undefined;
  /** @default one for each core */
  readonly threads?: number | undefined;
  /** Labelled folder for kNN while training. */
  readonly knnData?: string | undefined;
  /** Epochs between two kNN. @default 1 */
  readonly knnEvery?: number | undefined;
  /**
   * Whether RankMe and alpha are measured: with each kNN, of its images; without `knnData` at the end of each epoch, of a
   * sample of the training images, if they are more than 100. @default true
   */
  readonly rank?: boolean | undefined;
  /**
   * Of a method that takes audio: a CSV of pictures and what is heard with them, see `findAudioPairs`. @default audio files
   * beside the pictures, of the same names
   */
  readonly audio?: string | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default 0 and 65535 where they have 16 */
  readonly range?: readonly [black: number, white: number] | undefined;
  /** Whether a run stops once its representation has collapsed; the signs are logged in any case. @default true */
  readonly guard?: boolean | undefined;
  /** First weights: another run's folder (its latest checkpoint), an encoder.onnx or timm's .safetensors. @default drawn */
  readonly init?: string | undefined;
  /** A folder for what TensorBoard reads: event files, and embeddings at the end. @default none are written */
  readonly tensorboard?: string | undefined;
  /** Learns from the classes of a labelled folder: what `finetune` asks for. @default labels are ignored */
  readonly supervision?: Omit<Supervision, "classes"> | undefined;
  /** Peak learning rate of the classifier. @default the artifact's, times batch / 256 */
  readonly headLr?: number | undefined;
  /** Goes on with the run in `out`; only data, provider, device, threads, cacheMb, guard, rank and tensorboard may differ from what it began with. */
  readonly resume?: boolean | undefined;
  /** With `resume`: trains so many steps longer than the run began with; schedules are planned over the whole. */
  readonly extendSteps?: number | undefined;
  /** As `extendSteps`, in epochs. */
  readonly extendEpochs?: number | undefined;
}

export interface Opened {
  readonly config: RunConfig;
  readonly artifact: Artifact;
  readonly sources: Sources;
  /** Those of kNN while training. */
  readonly labelled: Sources | undefined;
  /** Those whose classes are held out, where the run learns from classes. */
  readonly heldOut?: Sources | undefined;
  /** In place of weights that would be drawn. */
  readonly first?: FirstWeights | undefined;
  /** When the artifact lies in the run's folder. */
  readonly written: Promise<void>;
  /** What was chosen for the user, and why: lines to be shown. */
  readonly chosen: readonly string[];
}

/** A new run's folder, with its artifact and configuration. `show` takes what is shown while it takes time. */
export async function create(given: TrainOptions, show?: (line: string) => void): Promise<Opened> {
  const recipe = given.recipe === undefined ? undefined : recipeNamed(given.recipe);
  const own = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const settings = { ...recipe?.config, ...given.config };
  const told = { ...recipe, ...(own as Partial<TrainOptions>), out: given.out, config: settings };
  const { data, out, seed = 0, limit, range, graph, steps, epochs = 100, cropOverlap } = told;
  if (data === undefined) throw expected("train", "--data DIR", "none");
  for (const flag of ["extendSteps", "extendEpochs"] as const) {
    if (given[flag] !== undefined) throw expected(flagOf(flag), "it with --resume", "a new run");
  }
  if (given.knnEvery !== undefined && given.knnData === undefined)
    throw expected("--knn-every", "--knn DIR with it", "none");
  const asked = askedPositives(told);
  if (asked && told.supervision)
    throw expected("train, supervision", "it without --positives", `--positives ${asked.kind}`);
  if (asked && limit !== undefined) throw expected("--limit", "it with --positives crops", asked.kind);
  await checkNoRun(out);
  const seen = await openSeen();
  const items = asked && (await findItems(data, asked, { range }, { show, look: seen.look }));
  const { sources: pictures, heldOut }: Training =
    items ?? (await findTraining(data, { limit, seed, range }, told.supervision));
  const supervision = told.supervision && supervisionOf(told.supervision, pictures);
  const labelled = told.knnData === undefined ? undefined : await imagesForKnn(told.knnData, { seed, range });
  const { size, chosen } =
    told.imageSize === undefined && graph === undefined
      ? await sizeFor(pictures)
      : { size: told.imageSize, chosen: [] };
  const { provider, chosen: why } = await providerFor(told);
  const classes = supervision && {
    classes: supervision.classes.length,
    ...(pictures.labelSets && { independent: true }),
  };
  const options = { ...told, config: { ...settings, ...classes }, imageSize: size, provider };
  const exact = exactness(options);
  const engine = engineFor(options);
  const target = targetOf(provider);
  const usual = (size: number) => options.batch ?? Math.min(usualBatch(size), countOf(pictures));
  const provide = async () => {
    if (graph === undefined) {
      const spec = specOf(options);
      const form = { target, batch: usual(spec.imageSize), inParts: options.microBatch !== undefined };
      return artifactFor(spec, form);
    }
    const given = await readArtifact(graph);
    refuseOtherThan(graph, given.manifest, options);
    if (options.microBatch !== undefined && given.manifest.files.step)
      throw expected(
        "--micro-batch",
        "an artifact whose step is in parts",
        graph,
        "leave out one of the two",
      );
    const form = { target, batch: usual(given.manifest.encoder.imageSize), ...scaledFor(options) };
    return loaded(await lowered(given, form));
  };
  const { manifest, graphs } = await provide();
  if (asked) checkMethod(manifest, asked.kind);
  refuseUnfit(options, { manifest, graphs });
  if ((manifest.labels !== undefined || manifest.detection) && !supervision)
    throw expected("train", "a method that learns without labels", manifest.method.name, "see finetune");
  const sources = await withAudio(data, pictures, manifest, { limit, seed, range, list: told.audio });
  const count = countOf(sources);
  const first = options.init === undefined ? undefined : await firstWeights(options.init, manifest);
  const { imageSize } = manifest.encoder;
  const batch = batchOf(manifest, count, options, asked ? "items" : "images");
  const stepsPerEpoch = Math.floor(count / batch);
  const config: RunConfig = {
    format: 1,
    recipe: given.recipe ?? null,
    artifact: manifest.name,
    data: resolve(data),
    limit: limit ?? null,
    ...(items && { positives: items.positives }),
    ...(cropOverlap !== undefined && { cropOverlap }),
    images: count,
    fingerprint: fingerprint(sources),
    batch,
    microBatch: options.microBatch ?? null,
    steps: steps ?? Math.ceil(epochs * stepsPerEpoch),
    seed,
    lr: options.lr ?? null,
    ...(options.headLr !== undefined && { headLr: options.headLr }),
    weightDecay: options.weightDecay ?? null,
    warmupEpochs: options.warmupEpochs ?? null,
    shorterSide: (manifest.detection ? longerSideFor : shorterSideFor)(imageSize),
    checkpointEvery: options.checkpointEvery ?? Math.max(1, stepsPerEpoch),
    cacheMb: options.cacheMb ?? Math.min(2048, Math.floor(memoryBytes() / 2 ** 22)),
    provider,
    ...deviceOf(options),
    ...exact.config,
    ...engine.config,
    threads: options.threads ?? null,
    guard: options.guard ?? true,
    rank: options.rank ?? true,
    knn:
      options.knnData === undefined ? null : { data: resolve(options.knnData), every: options.knnEvery ?? 1 },
    init: first?.origin ?? null,
    ...(told.audio !== undefined && { audio: resolve(told.audio) }),
    ...(supervision && { supervision }),
    ...(range && { range: [...range] as [number, number] }),
    versions: versions(),
  };
  const { artifact, written } = await beginArtifact(out, manifest, graphs); // last: what is refused leaves nothing behind
  const lines = [
    ...(items?.chosen ?? []),
    ...chosen,
    ...why,
    ...exact.chosen,
    ...engine.chosen,
    ...(first?.report ?? []),
  ];
  const all = written.then(() => seen.write(out));
  all.catch(() => {}); // thrown where it is awaited
  return { config, artifact, sources, labelled, heldOut, first, written: all, chosen: lines };
}

/** As config.json holds it. */
const supervisionOf = (
  { images, ...told }: NonNullable<TrainOptions["supervision"]>,
  { classes }: Sources,
): Supervision => ({
  ...told,
  ...(images !== undefined && { images: resolve(images) }),
  classes: [...classes],
});

/** How exact the provider's arithmetic is to be. @throws UserError if it cannot be told so */
export function exactness({
  provider,
  deterministic,
  precision,
  tf32,
}: Pick<TrainOptions, "deterministic" | "precision" | "tf32"> & {
  readonly provider: Provider;
}) {
  if (deterministic && provider === "webgpu")
    throw expected("--deterministic", "it with --provider cuda or cpu", `--provider ${provider}`);
  if (tf32 !== undefined && provider !== "cuda")
    throw expected("--tf32", "it with --provider cuda", `--provider ${provider}`);
  const told = tf32 === undefined ? precision : tf32 ? "tf32" : "fp32";
  if (precision !== undefined && precision !== told)
    throw expected(
      "--precision",
      `${told}, as by --${tf32 ? "" : "no-"}tf32`,
      precision,
      "leave out one of the two",
    );
  if (told !== undefined && told !== "fp32" && provider !== "cuda")
    throw expected(`--precision ${told}`, "it with --provider cuda", `--provider ${provider}`);
  const always = "deterministic: runs on the CPU always are, on one machine with as many threads";
  return {
    config: { ...(deterministic && { deterministic }), ...(told && { precision: told }) },
    chosen: [
      ...(deterministic && provider === "cpu" ? [always] : []),
      ...(told && provider === "cuda" ? [`provider cuda: precision ${told}`] : []),
    ],
  };
}

/** What computes the steps. @throws UserError if it cannot run what it is given */
export function engineFor({
  engine = "node",
  provider,
  microBatch,
}: { readonly provider: Provider } & Pick<TrainOptions, "engine" | "microBatch">) {
  if (engine === "node") return { config: {}, chosen: [] };
  if (provider !== "cpu")
    throw expected("--engine training-web", "it with --provider cpu", `--provider ${provider}`);
  if (microBatch !== undefined && microBatch !== null)
    throw expected(
      "--engine training-web",
      "a step that is one graph",
      "--micro-batch",
      "leave out one of the two",
    );
  const slower =
    "engine training-web: ONNX Runtime's own for the web, portable and several times slower than node";
  return { config: { engine }, chosen: [slower] };
}

/** As config.json holds it. */
export const deviceOf = ({
  device,
  cudaLibraries,
}: TrainOptions): Pick<RunConfig, "device" | "cudaLibraries"> => ({
  ...(device !== undefined && { device }),
  ...(cudaLibraries !== undefined && { cudaLibraries: resolve(cudaLibraries) }),
});

/** Sizes of views to choose from, pixels: those that benchmarks are made with. */
const IMAGE_SIZES = [32, 64, 96, 128, 224] as const;

/** The size next to the images' own, by ratio: larger views show no more of them, smaller ones lose what tells them apart. */
async function sizeFor(sources: Sources): Promise<{ size: number; chosen: readonly string[] }> {
  const side = (await typicalSide(sources)) ?? IMAGE_SIZES[0];
  const off = (size: number) => Math.abs(Math.log(size / side));
  const size = IMAGE_SIZES.reduce((best, next) => (off(next) < off(best) ? next : best));
  const why = `the images have ${side} px on their shorter side (median)`;
  return { size, chosen: [`views of ${size} px, for ${why}; --image-size takes another`] };
}

function specOf({
  method = "simclr",
  encoder = "resnet18",
  imageSize = 32,
  config,
  optimizer,
  precision,
}: TrainOptions): ArtifactSpec {
  return {
    method,
    encoder,
    imageSize,
    ...(config && { config }),
    ...(optimizer && { optimizer }),
    ...scaledFor({ precision }),
  };
}
