/** First weights from elsewhere: another run's, a frozen encoder's, or those of a file of timm's or torchvision's. */
import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { expected } from "../errors.ts";
import { encoderWeights } from "../export/weights.ts";
import { readWhole } from "../files/atomic.ts";
import { decodeSafetensors, type TensorData } from "../files/safetensors.ts";
import type { StateMap } from "../runtime/state.ts";
import type { Manifest, StateEntry } from "../spec.ts";
import { isCheckpoint, isOfCheckpoint, latestCheckpoint, loadCheckpoint } from "../train/checkpoint.ts";
import { type RunConfig, runFiles } from "../train/run-folder.ts";
import { encoderTensors } from "./foreign-weights.ts";

export interface FirstWeights {
  /** Tensors of the run's state by name, in place of those that would be drawn. */
  readonly given: StateMap;
  /** For config.json. */
  readonly origin: NonNullable<RunConfig["init"]>;
  /** What starts from there, what does not, and what of it is left out: a line to three. */
  readonly report: readonly string[];
}

const MAX_WEIGHTS = 2 ** 32;
const AVERAGE = "average.";
const ENCODER = "encoder.";

/**
 * Parameters, averages and running statistics of the same name and shape. An average that `path` lacks starts as its
 * parameter, and the other way round.
 *
 * @param path a run's folder (its latest checkpoint), an encoder.onnx, or a .safetensors file
 * @throws UserError if there are no weights, or none that the encoder of `manifest` has; of others' files see
 *   `encoderTensors`.
 */
export async function firstWeights(
  path: string,
  manifest: Pick<Manifest, "state" | "encoder">,
): Promise<FirstWeights> {
  const file = await fileAt(path);
  const wanted = manifest.state.filter(isWeight);
  const ofEncoder = wanted.filter(({ name }) => name.startsWith(ENCODER));
  const { tensors, left } = await tensorsOf(file, ofEncoder, manifest.encoder.name);
  if (file.endsWith(".onnx") && ofEncoder.some(isStatistic)) {
    const folded = "a frozen encoder, with BatchNorm folded into its convolutions";
    throw expected(file, "weights to train on from", folded, "give the folder of the run that wrote it");
  }
  const matches = new Map(wanted.map((entry) => [entry.name, match(entry, tensors)]));
  const given = new Map(
    [...matches].flatMap(([name, { tensor }]) => (tensor ? [[name, tensor] as const] : [])),
  );
  const started = (entries: readonly StateEntry[]) => entries.filter(({ name }) => given.has(name)).length;
  if (started(ofEncoder) === 0) {
    const [first] = tensors;
    const other = first ? `none, but ${first[0]} [${first[1].shape}]` : "none";
    throw expected(file, `tensors of ${manifest.encoder.name} by their names and shapes`, other);
  }
  const own = wanted.filter(({ role, name }) => role !== "average" && !name.startsWith(AVERAGE));
  const missed = own.flatMap(({ name, shape }) => {
    const { tensor, other } = matches.get(name)!;
    return tensor ? [] : [`${name} [${shape}] (there ${other ? `[${other.shape}]` : "is none"})`];
  });
  for (const [name, { data }] of given) {
    if (!(data as Float32Array).every(Number.isFinite))
      throw expected(`${file}: ${name}`, "numbers", "NaN or Infinity");
  }
  return {
    given,
    origin: { from: resolve(path), file: resolve(file), tensors: given.size },
    report: [
      `starting from ${file}: ${started(own)} of ${own.length} tensors, ${started(ofEncoder)} of ${ofEncoder.length} of the encoder`,
      ...(missed.length > 0 ? [`drawn anew: ${listed(missed)}`] : []),
      ...(left.length > 0 ? [`left out: ${listed(left)}`] : []),
    ],
  };
}

/** The file with the weights. */
async function fileAt(path: string): Promise<string> {
  const isFolder = existsSync(path) && statSync(path).isDirectory();
  if (!isFolder) {
    if (/\.(onnx|safetensors)$/.test(path)) return path;
    const advice = /\.(pth?|bin|ckpt|tar)$/.test(path)
      ? "save its tensors with safetensors.torch.save_file"
      : undefined;
    throw expected(
      "--init",
      "a run's folder, an encoder.onnx or a .safetensors file",
      JSON.stringify(path),
      advice,
    );
  }
  const { config, checkpoints, encoder } = runFiles(path);
  if (!existsSync(config) && existsSync(encoder)) return encoder; // exported by itself
  const latest = await latestCheckpoint(checkpoints);
  if (latest === undefined) throw expected(path, "a run with a checkpoint", "none");
  return latest;
}

interface Found {
  /** By the names of a run's state. */
  readonly tensors: StateMap;
  /** Names of what a file of others holds besides. */
  readonly left: readonly string[];
}

async function tensorsOf(file: string, ofEncoder: readonly StateEntry[], encoder: string): Promise<Found> {
  if (file.endsWith(".onnx"))
    return { tensors: encoderWeights(await readWhole(file, MAX_WEIGHTS, "an encoder"), file), left: [] };
  if (isCheckpoint(file)) return { tensors: (await loadCheckpoint(file)).tensors, left: [] }; // checked to the last bit
  const { tensors, metadata } = decodeSafetensors(await readWhole(file, MAX_WEIGHTS, "weights"), file);
  if (isOfCheckpoint(metadata)) return { tensors, left: [] };
  const timms = ofEncoder.map((entry) => ({ ...entry, name: entry.name.slice(ENCODER.length) }));
  const { tensors: own, left } = encoderTensors(tensors, timms, { encoder, file });
  return { tensors: new Map([...own].map(([name, tensor]) => [ENCODER + name, tensor])), left };
}

/** Whether it holds what was learnt: no queue, memory bank or optimizer's state. */
const isWeight = (entry: StateEntry): boolean =>
  entry.dtype === "float32" &&
  !entry.rows &&
  (["param", "average"].includes(entry.role) || isStatistic(entry));

const isStatistic = ({ name }: StateEntry): boolean => /\.running_(mean|var)$/.test(name);

/** The tensor of that name and shape, or of its average or of what it is one of; `other` has another shape. */
function match({ name, shape }: StateEntry, tensors: StateMap): { tensor?: TensorData; other?: TensorData } {
  const counterpart = name.startsWith(AVERAGE) ? name.slice(AVERAGE.length) : AVERAGE + name;
  const found = tensors.get(name) ?? tensors.get(counterpart);
  if (!found) return {};
  const fits = found.dtype === "float32" && found.shape.join() === shape.join();
  return fits ? { tensor: { ...found, data: found.data.slice() } } : { other: found };
}

const SHOWN = 5;

function listed(items: readonly string[]): string {
  const more = items.length - SHOWN;
  return `${items.slice(0, SHOWN).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
