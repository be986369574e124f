/** Plain data that the wing that builds graphs and the wing that runs them share. */

export type DType = "float32" | "uint8" | "int32" | "int64" | "bool";

/** A size: a number, or a symbol such as "n" or "2*n" that is known when the graph runs. */
export type Dim = number | string;
export type Shape = readonly Dim[];

/** How a state tensor starts. Draws depend on the run's seed and the tensor's name alone. */
export type Init =
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "normal"; readonly std: number }
  /** Normal, redrawn outside two standard deviations. */
  | { readonly kind: "truncated-normal"; readonly std: number }
  /** Uniform in [-bound, bound). */
  | { readonly kind: "uniform"; readonly bound: number }
  /** Each row (along the last axis) of length 1, its direction uniform. */
  | { readonly kind: "directions" }
  /** Equal to another state tensor at the start (an average starts as its parameter). */
  | { readonly kind: "copy"; readonly of: string };

export type Role = "param" | "average" | "buffer" | "optimizer";

/** A stage of an encoder in the form that a classifier is trained on: a mean for each of `places` of each channel. */
export interface StageEntry {
  readonly name: string;
  readonly channels: number;
  readonly places: number;
}

/** A tensor that a step reads and replaces. */
export interface StateEntry {
  readonly name: string;
  readonly role: Role;
  readonly dtype: DType;
  /** Of one row, where there are rows. */
  readonly shape: readonly number[];
  readonly init: Init;
  /** The output that holds its next value. */
  readonly next: string;
  /** Whether a step no longer reads it when it makes its next value, which can then be written over it. @default false */
  readonly inPlace?: boolean | undefined;
  /** Makes it a memory bank, kept on the host. */
  readonly rows?: Rows | undefined;
}

/**
 * A row for each image of the data. A step is fed those of its images (by the state's name, [n, ...shape]), whose next
 * values it puts out, and `others`.
 */
export interface Rows {
  /** Input [m, ...shape]: rows of images that are not in the batch, each image once at most, drawn for each step. */
  readonly others: string;
  /** m, or all that there are if they are fewer. */
  readonly count: number;
}

/** The value of a scalar over a run. */
export type Schedule =
  | { readonly kind: "constant"; readonly value: number }
  /** The number of the step, counted from 1. */
  | { readonly kind: "step" }
  /** The number of images that the run trains on. */
  | { readonly kind: "images" }
  /** 0, and 1 once that many steps and that many epochs are done. */
  | { readonly kind: "start"; readonly steps: number; readonly epochs: number }
  /** Linear from `from` to `to` over `epochs`, then `to`. */
  | { readonly kind: "linear"; readonly from: number; readonly to: number; readonly epochs: number }
  /** Linear from 0 over `warmupEpochs`, then half a cosine from `from` to `to`, reached at the end of the run. */
  | { readonly kind: "cosine"; readonly from: number; readonly to: number; readonly warmupEpochs: number }
  /** `from`, multiplied by `factor` at each share of the run in `at`, after a linear warm-up. */
  | {
      readonly kind: "steps";
      readonly from: number;
      readonly factor: number;
      readonly at: readonly number[];
      readonly warmupEpochs: number;
    };

export interface ScalarEntry {
  readonly name: string;
  readonly schedule: Schedule;
  /** "linear": the schedule's values are for 256 images a step and grow with the batch (Goyal et al. 2017). */
  readonly batchScaling: "none" | "linear";
}

/** How one view of an image is drawn; probabilities in [0, 1], sizes in pixels. */
export interface ViewRecipe {
  /** Height and width of the view. */
  readonly size: number;
  /** Share of the image's area and width / height of the box (random resized crop). */
  readonly crop: { readonly scale: readonly [number, number]; readonly ratio: readonly [number, number] };
  readonly flip: number;
  /** Views of an image with the same group share their crop, flip and choice, and (`color`) jitter and grayscale. */
  readonly group?: { readonly name: string; readonly color: boolean } | undefined;
  /** Takes a patch of the crop in place of the whole. */
  readonly patch?: Patch | undefined;
  /** Rotated by 0 to 3 quarter turns, each as likely (the column "turn" tells). */
  readonly turn?: boolean | undefined;
  /** Factors are drawn from [max(0, 1 - x), 1 + x], the rotation of the hue from [-hue, hue] of a full circle. */
  readonly jitter: {
    readonly p: number;
    readonly brightness: number;
    readonly contrast: number;
    readonly saturation: number;
    readonly hue: number;
  };
  /**
   * The colours of RandAugment (Cubuk et al. 2019, arXiv 1909.13719): so many times in a row brightness, contrast or saturation is
   * changed, or nothing, each as likely, by a factor of 1 + or - 0.9 magnitude / 30.
   */
  readonly randAugment?: RandAugment | undefined;
  readonly grayscale: number;
  /** Standard deviation in pixels, drawn uniformly; the kernel spans a tenth of the view's height. */
  readonly blur: { readonly p: number; readonly sigma: readonly [number, number] };
  readonly solarize: number;
  /** Keeps one channel, puts faint noise in place of the other two. */
  readonly dropChannels?: number | undefined;
}

export interface RandAugment {
  readonly operations: number;
  /** From 0 to 30. */
  readonly magnitude: number;
}

export interface Patch {
  /** The crop is cut into grid x grid cells. */
  readonly grid: number;
  /** Cells that it may come from, counted by rows; each choice is as likely (the column "choice" tells its place here). */
  readonly cells: readonly number[];
  /** Side of the patch over that of the cell; the rest is gap. */
  readonly side: number;
  /** Share of the gap that the patch may move in, about the cell's centre. */
  readonly jitter: number;
}

/**
 * The columns of a view's parameters, float32 [n, 17]: what `views/sample` draws and `views/augment` applies. Box in
 * pixels of the source. Colour before and after the rotation of the hue is gain * x + gray * luma(x) + mean *
 * average(luma(x)). Sigma 0 leaves the view sharp. Channel 1 to 3 keeps that one alone, 0 all. Turn counts quarter
 * turns, anticlockwise.
 */
export const VIEW_COLUMNS = [
  "top",
  "left",
  "height",
  "width",
  "flip",
  "gainBefore",
  "grayBefore",
  "meanBefore",
  "hue",
  "gainAfter",
  "grayAfter",
  "meanAfter",
  "sigma",
  "solarize",
  "channel",
  "turn",
  "choice",
] as const;
export type ViewColumn = (typeof VIEW_COLUMNS)[number];

/** What a clip is known by: a picture of it, and what is heard. */
export type Modality = "image" | "audio";

/** A log-mel spectrogram of audio; lengths in samples, frequencies in Hz. */
export interface Spectrogram {
  /** Of a frame, under a Hann window. */
  readonly window: number;
  /** From one frame to the next. */
  readonly hop: number;
  /** Bands, evenly spaced from `low` to `high` on the mel scale. */
  readonly mels: number;
  readonly low: number;
  readonly high: number;
}

/** The audio that a step takes beside images: a part of what is heard with each. */
export interface AudioEntry {
  /** Input float32 [n, samples], mono, in [-1, 1]. */
  readonly input: string;
  /** Samples a second. */
  readonly rate: number;
  readonly samples: number;
  /** Each part is multiplied by a factor drawn from [1 - volume, 1 + volume]. */
  readonly volume: number;
  readonly encoder: { readonly name: string; readonly features: number };
  /** Length of the vectors in which images and audio compare: the output "embedding" of both encoders. */
  readonly embedding: number;
}

/** A feature map on which objects are found. */
export interface DetectionLevel {
  /** Height and width, places. */
  readonly side: number;
  /** From one place to the next, pixels of the view; a place lies in the middle of its cell. */
  readonly stride: number;
  /** Boxes whose greatest distance to a place is in (from, to], pixels of the view, are found here; `to` null: all above. */
  readonly from: number;
  readonly to: number | null;
}

/** What a step is told of the objects in its images: for each place of its feature maps, which one is to be found there. */
export interface DetectionEntry {
  /** Input int64 [n, places]: the object's class among the run's classes, -1 where there is none. */
  readonly classes: string;
  /** Input float32 [n, places, 4]: from the place to the box's left, top, right and bottom, over the stride; else 0. */
  readonly distances: string;
  /** The view that they lie in, of an image that is padded to a square. */
  readonly view: number;
  /** Finest first. Places are counted level by level, row by row. */
  readonly levels: readonly DetectionLevel[];
  /** A place is an object's where it lies no further than this from the middle of its box, strides along either axis. */
  readonly radius: number;
}

/** JSON values, as configurations hold them. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/**
 * The graph of a step, or the four of a step in parts, which takes its batch in micro-batches (Gao et al. 2021, arXiv
 * 2101.06983). In parts, `embed` gives the tensors `cuts` of a micro-batch; `contrast` takes the cuts of all images
 * and gives the metrics, the gradients with respect to the cuts ("gradient.cut0", ...) and state that depends on the
 * images through the cuts alone; `backward` adds to the gradients with respect to the parameters ("gradient.NAME")
 * those of a micro-batch, and gives the other state; `update` what the parameters and the optimizer's state become.
 */
export const STEP_GRAPHS = ["step", "embed", "contrast", "backward", "update"] as const;
export type StepGraph = (typeof STEP_GRAPHS)[number];

/** A number of images that is needed at least, and why. */
export interface Least {
  readonly images: number;
  /** Follows the message that there are too few. */
  readonly why: string;
}

/** The loss where a network tells nothing: all that it chooses from has one score, embeddings have right angles. */
export type Chance =
  | { readonly kind: "constant"; readonly value: number }
  /** One of `fixed + perImage * images in the batch`: the natural logarithm of their number. */
  | { readonly kind: "choice"; readonly fixed: number; readonly perImage: number }
  /**
   * One of a memory bank's K + 1 rows, K of other images: ln(K + 1). Where each of the K is told to be none of its own
   * ("each"), K ln(1 + 1 / K) more.
   */
  | { readonly kind: "bank"; readonly each: boolean };

/** A share that is drawn for each step from Beta(alpha, alpha), as mixup draws it. */
export interface ShareEntry {
  readonly name: string;
  readonly alpha: number;
}

export interface GraphFile {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * What CUDA computes products in, and with the last two feature maps: float32 with products in TF32 (10 bits of mantissa),
 * float32 throughout, bfloat16, or float16, whose gradients would be lost without a scaled loss.
 */
export const PRECISIONS = ["tf32", "fp32", "bf16", "fp16"] as const;
export type Precision = (typeof PRECISIONS)[number];

/** What steps can be built for. */
export const TARGETS = ["portable", "cpu", "cuda"] as const;
export type TargetName = (typeof TARGETS)[number];

/**
 * Everything a run knows of an artifact. One step: feed `images` (uint8 [n, h, w, 3], each image in its top left
 * corner), a parameter row per image and view, the scalars and the state; replace each state tensor by its `next`.
 */
export interface Manifest {
  readonly format: 1;
  readonly name: string;
  readonly opset: number;
  readonly method: { readonly name: string; readonly paper: string; readonly config: JsonObject };
  readonly encoder: {
    readonly name: string;
    /** Height and width that it was built for, pixels. */
    readonly imageSize: number;
    /** Side of the squares that `encode` is best given: it takes their centre of `imageSize`, or their whole. */
    readonly side: number;
    /** Length of its feature vector. */
    readonly features: number;
  };
  readonly optimizer: { readonly name: string; readonly config: JsonObject };
  /** Where a step is made for fp16: its loss is scaled. */
  readonly precision?: "fp16" | undefined;
  /** `encode`, `encodeAudio` where there is `audio`, and either `step` or the four parts of one. */
  readonly files: {
    readonly encode: GraphFile;
    readonly encodeAudio?: GraphFile | undefined;
    readonly step?: GraphFile | undefined;
    readonly embed?: GraphFile | undefined;
    readonly contrast?: GraphFile | undefined;
    readonly backward?: GraphFile | undefined;
    readonly update?: GraphFile | undefined;
  };
  readonly views: readonly { readonly input: string; readonly recipe: ViewRecipe }[];
  /** @default images alone */
  readonly audio?: AudioEntry | undefined;
  /** Inputs int64 [n]: for each step an order of the batch's rows, drawn at random. */
  readonly permutations: readonly string[];
  /** Input int64 [n]: the place of each image's class among the run's classes. */
  readonly labels?: string | undefined;
  /** Where an image may be of several of so many classes: `labels` is float32 [n, classes], 1 for each of its own, else 0. */
  readonly multiHot?: number | undefined;
  /** @default it learns of no objects */
  readonly detection?: DetectionEntry | undefined;
  /** Inputs float32 []: for each step a draw from Beta(alpha, alpha). */
  readonly shares?: readonly ShareEntry[] | undefined;
  /** The number of images in a batch is a multiple of this. */
  readonly batchMultiple: number;
  /** The setting of the method that asks for that, besides `pieces`. */
  readonly multipleOf?: string | undefined;
  /** Of a batch. @default one image */
  readonly least?: Least | undefined;
  /** Of each part of a batch, where the step is in parts. @default one image */
  readonly leastOfPart?: Least | undefined;
  /** Undefined where no such loss means anything. */
  readonly chance?: Chance | undefined;
  /** What the step is built for: for any runtime, or in the forms that one backend computes fastest. @default "cpu" */
  readonly target?: TargetName | undefined;
  /** A step goes through its batch in so many. */
  readonly pieces: number;
  readonly scalars: readonly ScalarEntry[];
  readonly state: readonly StateEntry[];
  /** Scalar outputs of the step, the loss first. */
  readonly metrics: readonly string[];
  /** Output float32 [rows, d] whose spread shows a collapse. */
  readonly embedding: string;
}
