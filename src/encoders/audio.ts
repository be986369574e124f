/** Encoders of audio: residual networks over log-mel spectrograms, an image of one channel. */
import type { Tensor } from "../graph/tensor.ts";
import { batchNorm } from "../nn/layers.ts";
import type { Scope } from "../nn/scope.ts";
import { reshape } from "../ops/movement.ts";
import { basic, type Plan, padded, projected, stagesOf } from "./resnet.ts";

export interface AudioEncoder {
  readonly name: string;
  /** Length of the feature vector. */
  readonly features: number;
  /** Spectrograms [n, mels, frames] -> features [n, features]. */
  readonly build: (s: Scope, spectrogram: Tensor) => Tensor;
}

/** Whatever its size, a spectrogram gets the stem for large images: neighbouring bands and frames tell much the same. */
const LARGE = Number.POSITIVE_INFINITY;

function audioResnet(name: string, plan: Plan): AudioEncoder {
  const { stages, width, expansion } = plan;
  return {
    name,
    features: width * 2 ** (stages.length - 1) * expansion,
    build: (s, spectrogram) => {
      const [n, mels, frames] = spectrogram.shape as [Tensor["shape"][0], number, number];
      // Each band by the mean and deviation that it has in the data (Kong et al. 2020, arXiv 1912.10211).
      const bands = batchNorm(s, "bn0", spectrogram, { affine: false }); // [n, mels, frames]
      return stagesOf(s, reshape(bands, [n!, 1, mels, frames]), LARGE, plan).at(-1)!.x;
    },
  };
}

export const audioEncoders: readonly AudioEncoder[] = [
  /** As deep as AVID's. */
  audioResnet("resnet10", { block: basic(projected), stages: [1, 1, 1, 1], width: 64, expansion: 1 }),
  audioResnet("resnet20", { block: basic(padded), stages: [3, 3, 3], width: 16, expansion: 1 }),
];
