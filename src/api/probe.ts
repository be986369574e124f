/** How good a frozen encoder is: kNN and linear probes on labelled folders. */
import { readFile } from "node:fs/promises";
import * as z from "zod";
import { findLabelledImages } from "../data/sources.ts";
import { UserError, unknownName } from "../errors.ts";
import { writeFileAtomic } from "../files/atomic.ts";
import { parseJson } from "../files/safetensors.ts";
import { checkClasses } from "../probe/features.ts";
import { knn } from "../probe/knn.ts";
import { linearProbe } from "../probe/linear.ts";
import { type EncoderOptions, openEncoder } from "./encoder.ts";
import type { Surroundings } from "./surroundings.ts";

export const PROBE_KINDS = ["knn", "linear"] as const;
export type ProbeKind = (typeof PROBE_KINDS)[number];

export interface ProbeOptions extends EncoderOptions {
  /** encoder.onnx or a run's folder. */
  readonly encoder: string;
  readonly kind: ProbeKind;
  /** Labelled folders: one folder for each class. */
  readonly train: string;
  readonly test: string;
  /** Takes fixed, balanced samples of this many images of each. */
  readonly limit?: number | undefined;
  /** Neighbours. @default 200, or all if there are fewer */
  readonly k?: number | undefined;
  /** Of the neighbours' votes. @default 0.1 */
  readonly temperature?: number | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default what the encoder was trained with */
  readonly range?: readonly [black: number, white: number] | undefined;
  /** Of the samples and of linear training. @default 0 */
  readonly seed?: number | undefined;
}

export interface ProbeResult {
  readonly kind: ProbeKind;
  /** Percent. */
  readonly top1: number;
  /** Images. */
  readonly train: number;
  readonly test: number;
  /** Length of the feature vector. */
  readonly features: number;
  /** kNN alone. */
  readonly k?: number;
  readonly temperature?: number;
  /** Linear alone: the learning rate that won on held-out training images. */
  readonly lr?: number;
  readonly epochs?: number;
}

export function probeKindNamed(name: string): ProbeKind {
  const found = PROBE_KINDS.find((kind) => kind === name);
  if (!found) throw unknownName("kind of probe", name, PROBE_KINDS);
  return found;
}

/** @throws UserError on folders that are not labelled, a damaged encoder, classes that differ. */
export async function probe(options: ProbeOptions, surroundings: Surroundings = {}): Promise<ProbeResult> {
  const { kind, limit, seed = 0, range, threads, provider, device, cudaLibraries } = options;
  const sample = { limit, seed, range };
  const train = await findLabelledImages(options.train, sample);
  const test = await findLabelledImages(options.test, sample);
  checkClasses(`${kind} probe`, train, test); // which the probe itself would do once all are embedded
  const where = { threads, provider, device, cudaLibraries };
  const encoder = await openEncoder(options.encoder, where, surroundings);
  try {
    const [trainFeatures, testFeatures] = [
      (await encoder.embed(train, surroundings)).features,
      (await encoder.embed(test, surroundings)).features,
    ];
    const common = { train: trainFeatures.n, test: testFeatures.n, features: trainFeatures.d };
    if (kind === "knn") {
      const { k, temperature } = options;
      const found = await knn(trainFeatures, testFeatures, {
        ...(k !== undefined && { k }),
        ...(temperature !== undefined && { temperature }),
        ...(threads !== undefined && { threads }),
      });
      return { kind, top1: found.top1, k: found.k, temperature: found.temperature, ...common };
    }
    const { top1, lr, epochs } = await linearProbe(trainFeatures, testFeatures, {
      seed,
      ...(threads !== undefined && { threads }),
    });
    return { kind, top1, lr, epochs, ...common };
  } finally {
    await encoder.close();
  }
}

const baselineSchema = z.object({ kind: z.string().max(100), top1: z.number() });

export async function writeBaseline(file: string, { kind, top1, ...rest }: ProbeResult): Promise<void> {
  await writeFileAtomic(file, `${JSON.stringify({ kind, top1, ...rest }, null, 2)}\n`);
}

/** The top-1 of a baseline, percent. @throws UserError if there is none of that kind. */
export async function readBaseline(file: string, kind: string): Promise<number> {
  const bytes = await readFile(file).catch(() => {
    throw new UserError(`${file}: expected a baseline, found no such file; write one with --write-baseline`);
  });
  const parsed = baselineSchema.safeParse(parseJson(bytes, file));
  if (parsed.success && parsed.data.kind === kind) return parsed.data.top1;
  throw new UserError(`${file}: expected a baseline of kind ${kind}; write one with --write-baseline`);
}

/** @throws UserError with exit code 1 if top-1 fell more than `tolerance` points below the baseline's. */
export async function checkBaseline(file: string, result: ProbeResult, tolerance: number): Promise<void> {
  const top1 = await readBaseline(file, result.kind);
  if (result.top1 < top1 - tolerance) {
    throw new UserError(
      `${result.kind} top-1 is ${result.top1.toFixed(2)} %, below the baseline's ${top1.toFixed(2)} % by more than ${tolerance}`,
      1,
    );
  }
}
