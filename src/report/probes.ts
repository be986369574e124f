/** What probes found of a run: probes.json in its folder. */
import { existsSync } from "node:fs";
import * as z from "zod";
import { expected } from "../errors.ts";
import { readWhole } from "../files/atomic.ts";
import { parseJson } from "../files/safetensors.ts";
import { runFiles } from "../train/run-folder.ts";

export const PROBES_FORMAT = 1;

/** What a file may hold. */
export const MOST = {
  bytes: 2 ** 24,
  probes: 50,
  /** With more of them a probe's accuracies by class are left out. */
  classes: 2000,
  /** Pairs of classes: all of 44 classes. */
  pairs: 2000,
  layers: 256,
} as const;

const count = z.int().min(0);
const percent = z.number().min(0).max(100);
const name = z.string().max(1000);
const path = z.string().max(4096);
/** Null where it is not finite, or the features are too few. */
const figure = z.number().nullable();

/** Over trainings with other seeds. */
const spreadSchema = z.object({
  values: z.array(percent).max(10_000).readonly(),
  mean: percent,
  std: z.number(),
  least: percent,
  greatest: percent,
});

export type Spread = z.infer<typeof spreadSchema>;

const askedSchema = z.object({
  /** Steps that the encoder was trained for. */
  step: count,
  /** ISO 8601. */
  time: z.string().max(40),
  /** Folders, absolute. */
  data: z.union([z.object({ train: path, test: path }), z.object({ images: path })]),
  limit: count.optional(),
  seed: z.int(),
  range: z.tuple([z.number(), z.number()]).optional(),
  /** Length of the feature vector. */
  features: count,
});

/** Test images, or pixels of them, of a class that were taken for another, or for itself: places in `names`, the most first. */
const confusionSchema = z
  .object({
    names: z.array(name).max(MOST.classes),
    pairs: z.array(z.tuple([count, count, count.min(1)])).max(MOST.pairs),
  })
  .refine(
    ({ names, pairs }) => pairs.every(([own, taken]) => own < names.length && taken < names.length),
    "expected places in its names",
  );

export type Confusion = z.infer<typeof confusionSchema>;

const accuracySchema = askedSchema.extend({
  kind: z.enum(["knn", "linear", "layers"]),
  top1: percent,
  /** 95 % interval of top-1. */
  low: percent,
  high: percent,
  top5: percent,
  train: count,
  test: count,
  labels: z.number().optional(),
  k: count.optional(),
  temperature: z.number().optional(),
  lr: z.number().optional(),
  epochs: count.optional(),
  augment: z.boolean().optional(),
  seeds: z.object({ top1: z.array(percent).max(10_000), mean: percent, std: z.number() }).optional(),
  repeats: z
    .object({ seeds: z.array(z.int()).max(10_000).readonly(), top1: spreadSchema, top5: spreadSchema })
    .optional(),
  layers: z
    .array(
      z.object({
        ...{ name, features: count, top1: percent, low: percent, high: percent },
        repeats: spreadSchema.optional(),
      }),
    )
    .max(MOST.layers)
    .optional(),
  classes: z
    .array(z.object({ class: name, images: count, top1: percent }))
    .max(MOST.classes)
    .optional(),
  confusion: confusionSchema.optional(),
});
export type Accuracy = z.infer<typeof accuracySchema>;

const rankSchema = askedSchema.extend({
  kind: z.literal("rank"),
  rankme: figure,
  alpha: figure,
  uniformity: figure,
  alignment: figure.optional(),
  lidar: figure.optional(),
  views: count.optional(),
  viewed: count.optional(),
  images: count,
});

/** What a page shows as it is. */
const spriteUrl = z
  .string()
  .max(400_000)
  .regex(/^data:image\/webp;base64,[A-Za-z0-9+/]+={0,2}$/);
const sprite = z.object({ url: spriteUrl, columns: count.min(1), rows: count, cell: count.min(1) });

const segmentationSchema = askedSchema.extend({
  kind: z.literal("segmentation"),
  meanIoU: percent,
  /** 95 % interval of the mean IoU. */
  low: percent,
  high: percent,
  pixelAccuracy: percent,
  train: count,
  test: count,
  stage: name,
  grid: count,
  epochs: count,
  classes: z.array(z.object({ class: name, pixels: count, iou: percent })).max(MOST.classes),
  confusion: confusionSchema,
  pictures: z
    .object({
      sprite,
      files: z.array(path).max(100),
      classes: z.array(z.object({ index: count.max(255), class: name })).max(256),
    })
    .optional(),
});
export type Segmentation = z.infer<typeof segmentationSchema>;

const probeSchema = z.discriminatedUnion("kind", [accuracySchema, rankSchema, segmentationSchema]);
/** A result, what it is of, and how it was asked for. */
export type Probe = z.infer<typeof probeSchema>;

const fileSchema = z.object({ probes: z.array(probeSchema).max(MOST.probes) });

/** The newest first; none where there is no file. @throws UserError if it is damaged. */
export async function readProbes(run: string): Promise<readonly Probe[]> {
  const file = runFiles(run).probes;
  if (!existsSync(file)) return [];
  const advice = "remove it and probe again";
  const json = parseJson(await readWhole(file, MOST.bytes, "results of probes", advice), file, advice);
  const format = z.object({ format: z.unknown() }).safeParse(json).data?.format;
  if (format !== PROBES_FORMAT) {
    const found = JSON.stringify(format)?.slice(0, 40) ?? "none";
    const newer = "a newer ort-pretrain may have written it: update to read it";
    throw expected(`${file}: "format"`, `${PROBES_FORMAT}`, found, newer);
  }
  const parsed = fileSchema.safeParse(json);
  if (parsed.success) return parsed.data.probes;
  const { path: place, message } = parsed.error.issues[0]!;
  throw expected(
    file,
    "results of probes",
    `something else (${[place.join("."), message].join(": ")})`,
    advice,
  );
}

/** What was asked: probes with the same one tell the same of two encoders. */
export function askedBy(probe: Probe): string {
  const { kind, data, limit, seed, range } = probe;
  if (kind === "rank") return JSON.stringify({ kind, data, limit, seed, range, views: probe.views });
  if (kind === "segmentation") {
    const { stage, epochs } = probe;
    return JSON.stringify({ kind, data, limit, seed, range, stage, epochs });
  }
  const { labels, k, temperature, epochs, augment, seeds } = probe;
  const own = { labels, k, temperature, epochs, augment, seeds: seeds?.top1.length };
  return JSON.stringify({ kind, data, limit, seed, range, ...own });
}
