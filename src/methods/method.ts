/** What a method is: a configuration, the views it wants, and the graph of its loss. */
import type * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import type { Hyperparameters } from "../nn/optimizers.ts";
import type { Scope } from "../nn/scope.ts";
import type {
  AudioEntry,
  Chance,
  DetectionLevel,
  JsonObject,
  Least,
  Modality,
  Spectrogram,
  ViewColumn,
  ViewRecipe,
} from "../spec.ts";

/** What a method builds with. */
export interface StepScope extends Scope {
  /** One tensor [n, 3, size, size] for each of the method's recipes, row i from image i. */
  readonly views: readonly Tensor[];
  /** What was drawn for a view, float32 [n]. */
  drawn(view: number, column: ViewColumn): Tensor;
  /** An order of the batch's n rows, drawn at random for each step, int64 [n]. */
  permutation(name: string): Tensor;
  /** The classes of the batch's images, as places in the run's list of them, float32 [n]. */
  labels(): Tensor;
  /** In their place, where an image may be of several of so many classes: 1 for each of its own, else 0; float32 [n, classes]. */
  multiHot(classes: number): Tensor;
  /** A number from 0 to 1 that is drawn for each step from Beta(alpha, alpha), float32 []. */
  share(name: string, alpha: number): Tensor;
  /** Stages of the encoder that have parameters, in order, and the place among them of the one that a parameter lies in. */
  stages(): Stages;
  /** Views [rows, 3, size, size] -> features [rows, d], with the weights that are trained and exported. */
  encode(views: Tensor): Tensor;
  /** Views [n, 3, size, size] -> the encoder's last stages as feature maps [n, c, h, w], finest first, with the same weights. */
  maps(views: Tensor): readonly Tensor[];
  /** What is to be found in the first view, at each place of these levels; a place belongs to a box within `radius` strides. */
  objects(levels: readonly DetectionLevel[], radius: number): ObjectTargets;
  /** What is heard with each image, float32 [n, samples]; of methods that state `audio`. */
  readonly audio: Tensor;
  /** Audio [rows, samples] -> features [rows, d] of the audio encoder, which is trained and exported too. */
  encodeAudio(audio: Tensor): Tensor;
}

/** How a method takes audio. */
export interface AudioSettings extends Omit<AudioEntry, "input" | "encoder"> {
  /** Its encoder's name. */
  readonly encoder: string;
  readonly spectrogram: Spectrogram;
}

export interface Stages {
  readonly names: readonly string[];
  /** By the parameter's name. */
  readonly of: ReadonlyMap<string, number>;
}

export interface Step {
  /** float32 []. */
  readonly loss: Tensor;
  /** More numbers worth watching, float32 [] each. */
  readonly metrics: Readonly<Record<string, Tensor>>;
  /** Vectors [rows, d] that must stay spread out; their collapse stops a run. */
  readonly embedding: Tensor;
  /**
   * Tensors [n, ...], row i from image i, through which alone the loss, the metrics and the embedding depend on the
   * images: with them a step can take micro-batches of a batch larger than memory.
   */
  readonly cut?: readonly Tensor[];
}

export interface Classified {
  /** float32 [n, classes]; each row sums to 1, unless the classes are independent. */
  readonly probabilities: Tensor;
}

/** For each place of all levels, one after the other, the object that is to be found there. */
export interface ObjectTargets {
  /** As places in the run's list of classes, -1 where there is none, float32 [n, places]. */
  readonly classes: Tensor;
  /** To the left, top, right and bottom of its box, in strides, float32 [n, places, 4]; else 0. */
  readonly distances: Tensor;
}

export interface Detected {
  /**
   * float32 [n, places, 4 + classes]: left, top, right and bottom of a box, pixels of the view, then the score of each class
   * in [0, 1].
   */
  readonly objects: Tensor;
}

export interface OptimizerChoice extends Hyperparameters {
  readonly name: "sgd" | "lars" | "adamw";
  /** Settings of the optimizer itself, such as Nesterov's momentum; its defaults where left out. */
  readonly config?: JsonObject;
}

export type Exported = "trained" | "average";

export interface Method<C> {
  readonly name: string;
  readonly paper: string;
  /**
   * The only home of its defaults, which may depend on the image size in pixels. What the encoder sees must be a multiple
   * of `multiple` pixels in height and width, 1 by default.
   * @throws UserError on an image size that gives no such views.
   */
  readonly config: (imageSize: number, multiple?: number) => z.ZodType<C>;
  readonly views: (config: C, imageSize: number) => readonly ViewRecipe[];
  /** The audio that it takes beside images. @default none */
  readonly audio?: (config: C) => AudioSettings;
  /**
   * Features [rows, d] of either modality -> vectors [rows, embedding] of unit length, in which the two compare: a further
   * output of both encoders. Where there is `audio`.
   */
  readonly embed?: (s: Scope, modality: Modality, features: Tensor, config: C) => Tensor;
  readonly optimizer: (imageSize: number) => OptimizerChoice;
  /** The setting, a number, that the number of images in a batch must be a multiple of. */
  readonly batchMultiple?: keyof C & string;
  /** The images that its loss needs in a batch; batch statistics tell of themselves what they need. @default one */
  readonly least?: Least;
  /** Undefined where no such loss means anything. */
  readonly chance?: (config: C) => Chance;
  /** Which weights are exported: those trained, or their moving average. @default "trained" */
  readonly exports?: Exported | ((config: C) => Exported);
  /** What its head makes of features [n, d] in evaluation, as a further output of `encode`. */
  readonly classify?: (s: Scope, features: Tensor, config: C) => Classified;
  /**
   * What its head makes of the encoder's maps in evaluation, of a view of `imageSize` pixels that shows all of an image: a
   * further output of `encode`. It trains on images that are padded to squares.
   */
  readonly detect?: (s: Scope, maps: readonly Tensor[], config: C, imageSize: number) => Detected;
  readonly build: (step: StepScope, config: C) => Step;
}
