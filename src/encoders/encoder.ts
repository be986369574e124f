/** What an encoder is to the rest: a name and a function from images to features. */
import type { Tensor } from "../graph/tensor.ts";
import type { Scope } from "../nn/scope.ts";

/** What an encoder computes on the way to its features. */
export interface Stage {
  readonly name: string;
  /** A feature map [n, c, h, w], tokens [n, 1 + patches, width] with the class token first, or features [n, d]. */
  readonly x: Tensor;
}

export interface Encoder {
  readonly name: string;
  /** Where it comes from. */
  readonly paper: string;
  /** Length of the feature vector. */
  readonly features: number;
  /** Values of its blocks' largest activation for one view of that many pixels in height and width. */
  readonly widest: (imageSize: number) => number;
  /** In its form for `imageSize` pixels it takes views whose size in pixels is a multiple of this: of 1, or of a patch. */
  readonly multiple: (imageSize: number) => number;
  /**
   * Normalised views [n, 3, size, size], such as images, patches and small crops, -> features [n, features], by the form
   * and with the weights that it has for `imageSize` pixels; state names as timm uses them.
   */
  readonly build: (s: Scope, views: Tensor, imageSize: number) => Tensor;
  /** The same with what comes before: in order, the last one called "features". Of views that are not in pieces. */
  readonly stages: (s: Scope, views: Tensor, imageSize: number) => readonly Stage[];
  /** The optimizer that trains it best, and its hyperparameters; the method's own where it is undefined. */
  readonly optimizer?: "adamw";
}
