/** The configuration and the folder of a new run. */
import { resolve } from "node:path";
import type { ArtifactSpec } from "../artifact/artifact-spec.ts";
import { type Artifact, beginArtifact, readArtifact } from "../artifact/files.ts";
import { typicalSide } from "../data/sizes.ts";
import { countOf, fingerprint, type Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { memoryBytes } from "../machine.ts";
import { providerFor } from "../runtime/providers.ts";
import type { Provider } from "../runtime/session.ts";
import { batchOf, usualBatch } from "../train/batch.ts";
import { checkNoRun, type RunConfig, type Supervision } from "../train/run-folder.ts";
import { artifactFor, loaded, lowered, targetOf } from "./artifacts.ts";
import { flagOf, refuseOtherThan } from "./compare.ts";
import { imagesForKnn } from "./evaluation.ts";
import { type FirstWeights, firstWeights } from "./init.ts";
import { askedPositives, checkMethod, findItems } from "./positives.ts";
import { exactness, refuseUnfit, scaledFor } from "./precision.ts";
import { recipeNamed } from "./recipes.ts";
import { withAudio } from "./run-sources.ts";
import { openSeen } from "./seen.ts";
import { findTraining, type Training } from "./supervised.ts";
import type { TrainOptions } from "./train-options.ts";
import { versions } from "./versions.ts";
import { longerSideFor, shorterSideFor } from "./views.ts";

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
