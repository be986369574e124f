/** What an encoder is to the rest: a name and a function from images to features. */
import type { Tensor } from "../graph/tensor.ts";
import type { Scope } from "../nn/scope.ts";

export interface Encoder {
  readonly name: string;
  /** Where it comes from. */
  readonly paper: string;
  /** Length of the feature vector. */
  readonly features: number;
  /** Values of its blocks' largest activation for one view of that many pixels in height and width. */
  readonly widest: (imageSize: number) => number;
  /** Whether it takes views of any size with the same weights, such as patches and small crops. */
  readonly anySize: boolean;
  /**
   * Normalised views [n, 3, size, size] -> features [n, features], by the form that it has for `imageSize` pixels;
   * state names as timm uses them.
   */
  readonly build: (s: Scope, views: Tensor, imageSize: number) => Tensor;
  /** The optimizer that trains it best, and its hyperparameters; the method's own where it is undefined. */
  readonly optimizer?: "adamw";
}
