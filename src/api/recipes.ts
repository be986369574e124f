/**
 * Published settings by name, and the figure that was published with them: data for `train --recipe`. What a recipe
 * leaves out are the method's defaults, which hold the paper's settings for photos and its followers' for CIFAR.
 */
import type { ArtifactSpec } from "../artifact/artifact-spec.ts";
import { named } from "../errors.ts";

export interface Recipe extends ArtifactSpec {
  readonly name: string;
  /** Images a step. */
  readonly batch: number;
  readonly epochs: number;
  /** What was published with these settings. */
  readonly figure: string;
}

const photos = { encoder: "resnet50", imageSize: 224 } as const;
/** lightly's CIFAR-10 benchmark: batches of 128, 200 epochs, kNN with k = 200 and T = 0.1. */
const cifar10 = { encoder: "resnet18", imageSize: 32, batch: 128, epochs: 200 } as const;
const sgd = { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 0 } as const;

export const recipes: readonly Recipe[] = [
  {
    name: "audio-video-kinetics",
    method: "audio-video",
    encoder: "resnet18",
    imageSize: 224,
    config: { rate: 24_000 },
    batch: 256,
    epochs: 300, // 30, of ten clips of a video
    figure: "UCF-101 fine-tuned 86.9 (with a video encoder, R(2+1)D-18)",
  },
  {
    name: "barlow-twins-cifar10",
    method: "barlow-twins",
    ...cifar10,
    figure: "CIFAR-10 kNN 84.2 (lightly)",
    optimizer: sgd,
  },
  {
    name: "barlow-twins-imagenet",
    method: "barlow-twins",
    ...photos,
    batch: 2048,
    epochs: 1000,
    figure: "ImageNet linear 73.5",
  },
  { name: "byol-cifar10", method: "byol", ...cifar10, figure: "CIFAR-10 kNN 86.9 (lightly)" },
  {
    name: "byol-imagenet",
    method: "byol",
    ...photos,
    batch: 4096,
    epochs: 1000,
    figure: "ImageNet linear 74.4",
  },
  {
    name: "cpc-cifar10",
    method: "cpc",
    encoder: "resnet50",
    imageSize: 32,
    batch: 64,
    epochs: 1000,
    figure: "CIFAR-10 linear 84.5 (lightning-bolts, with a larger encoder)",
  },
  { name: "dino-cifar10", method: "dino", ...cifar10, figure: "CIFAR-10 kNN 84.0 (lightly)", optimizer: sgd },
  {
    name: "dino-imagenet",
    method: "dino",
    ...photos,
    batch: 4096,
    epochs: 800,
    figure: "ImageNet linear 75.3, kNN 67.5",
  },
  {
    name: "instance-discrimination-imagenet",
    method: "instance-discrimination",
    ...photos,
    batch: 256,
    epochs: 200,
    figure: "ImageNet kNN 46.8",
  },
  {
    name: "jigsaw-100-imagenet",
    method: "jigsaw",
    ...photos,
    config: { permutations: 100, patch: 64 },
    batch: 256,
    epochs: 105,
    figure: "ImageNet linear 48.57 (VISSL)",
  },
  {
    name: "jigsaw-2000-imagenet",
    method: "jigsaw",
    ...photos,
    config: { permutations: 2000, patch: 64 },
    batch: 256,
    epochs: 105,
    figure: "ImageNet linear 46.73 (VISSL)",
  },
  { name: "moco-cifar10", method: "moco", ...cifar10, figure: "CIFAR-10 kNN 83.8 (lightly)", optimizer: sgd },
  {
    name: "moco-v1-imagenet",
    method: "moco",
    ...photos,
    config: { temperature: 0.07, head: "linear", jitter: 0.4, hue: 0.4, jitterP: 1, blur: 0 },
    optimizer: {
      name: "sgd",
      lr: 0.03,
      weightDecay: 1e-4,
      warmupEpochs: 0,
      drops: { factor: 0.1, at: [0.6, 0.8] },
    },
    batch: 256,
    epochs: 200,
    figure: "ImageNet linear 60.6",
  },
  {
    name: "moco-v2-imagenet",
    method: "moco",
    ...photos,
    batch: 256,
    epochs: 200,
    figure: "ImageNet linear 67.5 (71.1 in 800 epochs)",
  },
  {
    name: "pirl-imagenet",
    method: "pirl",
    ...photos,
    batch: 1024,
    epochs: 800,
    figure: "ImageNet linear 64.3 (62.9 in 200 epochs)",
  },
  {
    name: "relative-position-imagenet",
    method: "relative-position",
    ...photos,
    config: { patch: 64, dropChannels: 0 },
    batch: 512,
    epochs: 70,
    figure: "ImageNet linear 40.4 (mmselfsup)",
  },
  {
    name: "rotation-imagenet",
    method: "rotation",
    ...photos,
    batch: 256,
    epochs: 105,
    figure: "ImageNet linear 48.2 (VISSL)",
  },
  {
    name: "simclr-cifar10",
    method: "simclr",
    ...cifar10,
    figure: "CIFAR-10 kNN 84.7 (lightly)",
    optimizer: sgd,
  },
  {
    name: "simclr-imagenet",
    method: "simclr",
    ...photos,
    batch: 4096,
    epochs: 100,
    figure: "ImageNet linear 64.5",
  },
  {
    name: "simsiam-cifar10",
    method: "simsiam",
    ...cifar10,
    figure: "CIFAR-10 kNN 81.9 (lightly)",
    optimizer: sgd,
  },
  {
    name: "simsiam-imagenet",
    method: "simsiam",
    ...photos,
    batch: 256,
    epochs: 100,
    figure: "ImageNet linear 68.1",
  },
  { name: "swav-cifar10", method: "swav", ...cifar10, figure: "CIFAR-10 kNN 81.2 (lightly)" },
  {
    name: "swav-imagenet",
    method: "swav",
    ...photos,
    config: { smallCrops: 0 },
    batch: 4096,
    epochs: 400,
    figure: "ImageNet linear 70.1",
  },
  {
    name: "swav-multicrop-imagenet",
    method: "swav",
    ...photos,
    batch: 4096,
    epochs: 800,
    figure: "ImageNet linear 75.3 (72.1 in 100 epochs)",
  },
  {
    name: "swav-multicrop-imagenet-256",
    method: "swav",
    ...photos,
    config: { queue: 3840, queueStart: 15, freeze: 5005 },
    optimizer: { name: "lars", lr: 0.6, weightDecay: 1e-6, warmupEpochs: 0, finalLr: 0.001 },
    batch: 256,
    epochs: 200,
    figure: "ImageNet linear 72.7",
  },
  {
    name: "vicreg-imagenet",
    method: "vicreg",
    ...photos,
    batch: 2048,
    epochs: 1000,
    figure: "ImageNet linear 73.2",
  },
];

/** @throws UserError with the nearest known name. */
export const recipeNamed = (name: string): Recipe => named("recipe", name, recipes);
