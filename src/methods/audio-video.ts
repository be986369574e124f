/**
 * Audio-visual instance discrimination with cross-modal agreement's first part, Cross-AVID (Morgado et al. 2020, arXiv
 * 2004.12943): the picture of a clip must find what is heard with it, and the other way round. Each modality has a memory
 * bank; a clip's picture is scored against the clip's row in the bank of audio, and against rows of other clips. In place
 * of a video encoder over several frames stands an encoder of one picture, and the audio encoder sees log-mel
 * spectrograms where the authors' sees log spectrograms.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { mlp } from "../nn/heads.ts";
import { add, mul } from "../ops/elementwise.ts";
import { normalize } from "../ops/reduce.ts";
import { bankChance, contrastWithBank, memoryBank, remember } from "./memory-bank.ts";
import type { Method } from "./method.ts";
import { fraction, randomView, SMALL, share } from "./views.ts";

/** Of the audio, samples a second. */
const MOST_RATE = 192_000;

const config = (imageSize: number) => {
  const small = imageSize <= SMALL;
  return z
    .strictObject({
      /** The authors' noise-contrastive estimate, or InfoNCE. */
      loss: z.enum(["nce", "infonce"]).default(small ? "infonce" : "nce"),
      /** 0.07; 0.1 for small images, as `instance-discrimination` has it. */
      temperature: z
        .number()
        .positive()
        .default(small ? 0.1 : 0.07),
      /** Rows of other clips that each batch is scored against, K; its clips share them. */
      negatives: z.int().positive().default(1024),
      /** Share of its old value that a row of a bank keeps when its clip is seen. */
      momentum: fraction.default(0.5),
      /** Of each projector: two hidden layers, and the length of an embedding. */
      hidden: z.int().positive().default(512),
      dim: z.int().positive().default(128),
      /**
       * Batch normalisation in them and, without scale, of embeddings. The authors have none; but over few clips all
       * embeddings would move together, and a clip's own row be told from the others by its age alone.
       */
      headNorm: z.boolean().default(small),
      /** Brightness, contrast and saturation; a quarter of it for hue. */
      jitter: z.number().min(0).default(0.4),
      /** Least share of the picture's area in a crop. */
      cropScale: share.default(0.2),
      /** Probability of a flip. */
      flip: fraction.default(0.5),
      audioEncoder: z.string().default(small ? "resnet20" : "resnet10"),
      /** Samples a second. */
      rate: z.int().min(1000).max(MOST_RATE).default(16_000),
      /** Of audio in a step. */
      seconds: z.number().positive().max(60).default(2),
      /** Factors of loudness are drawn from [1 - volume, 1 + volume]. */
      volume: fraction.default(0.1),
      /** Of a frame and from one to the next, milliseconds. */
      window: z.number().positive().max(1000).default(25),
      hop: z.number().positive().max(1000).default(10),
      mels: z.int().min(8).max(512).default(64),
      /** Of the lowest and the highest band, Hz. */
      band: z.tuple([z.number().min(0), z.number().positive()]).default([60, 7800]),
    })
    .superRefine(({ seconds, window, hop, rate, band: [low, high] }, context) => {
      const refuse = (path: string, message: string) =>
        context.addIssue({ code: "custom", path: [path], message });
      if (1000 * seconds < window) refuse("seconds", `expected a window of ${window} ms or more`);
      if (samplesOf(hop, rate) < 1) refuse("hop", "expected a sample or more");
      if (samplesOf(window, rate) < 16) refuse("window", "expected 16 samples or more");
      if (low >= high || high > rate / 2)
        refuse("band", `expected two frequencies up to half the rate (${rate / 2} Hz), the lower one first`);
    });
};
type Config = z.infer<ReturnType<typeof config>>;

const samplesOf = (milliseconds: number, rate: number): number => Math.round((milliseconds * rate) / 1000);

export const audioVideo: Method<Config> = {
  name: "audio-video",
  paper: "Audio-Visual Instance Discrimination with Cross-Modal Agreement, arXiv 2004.12943",
  config,
  views: ({ jitter, cropScale, flip }, size) => [
    randomView(size, { scale: [cropScale, 1], jitter: [jitter, jitter, jitter, jitter / 4], flip }),
  ],
  audio: ({ audioEncoder, rate, seconds, volume, window, hop, mels, band: [low, high], dim }) => ({
    encoder: audioEncoder,
    rate,
    samples: Math.round(seconds * rate),
    volume,
    embedding: dim,
    spectrogram: { window: samplesOf(window, rate), hop: samplesOf(hop, rate), mels, low, high },
  }),
  embed: (s, modality, features, { hidden, dim, headNorm }) =>
    normalize(
      s.in("projector", () =>
        s.in(modality, () =>
          mlp(s, features, {
            sizes: [hidden, hidden, dim],
            batchNorm: headNorm,
            lastBatchNorm: headNorm && "plain",
          }),
        ),
      ),
    ), // [rows, dim]
  // The authors' Adam; its decay is not decoupled, but at 1e-5 neither does much.
  optimizer: (imageSize) => ({
    name: "adamw",
    lr: imageSize <= SMALL ? 1e-3 : 2e-4,
    weightDecay: 1e-5,
    warmupEpochs: 0,
  }),
  chance: ({ loss }) => bankChance(loss),
  build: (step, settings) => {
    const { loss: kind, temperature, negatives, momentum, dim } = settings;
    const tau = step.scalar("temperature", { kind: "constant", value: temperature });
    const embedded = {
      image: audioVideo.embed!(step, "image", step.encode(step.views[0]!), settings), // [n, dim]
      audio: audioVideo.embed!(step, "audio", step.encodeAudio(step.audio), settings), // [n, dim]
    };
    const contrast = (queries: Tensor, modality: keyof typeof embedded) =>
      step.in(modality, () => {
        const bank = memoryBank(step, embedded[modality], dim, negatives);
        const found = contrastWithBank(step, kind, queries, bank, tau);
        remember(step, bank, embedded[modality], momentum);
        return found;
      });
    const toAudio = contrast(embedded.image, "audio");
    const toImage = contrast(embedded.audio, "image");
    return {
      loss: mul(add(toAudio.loss, toImage.loss), 0.5),
      metrics: { accuracy: mul(add(toAudio.accuracy, toImage.accuracy), 0.5) },
      embedding: embedded.image,
    };
  },
};
