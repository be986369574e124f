/** What a run is told. */
import type { ArtifactSpec } from "../artifact/artifact-spec.ts";
import type { ProviderChoice } from "../runtime/providers.ts";
import type { Engine } from "../runtime/training-web.ts";
import type { JsonObject, Precision } from "../spec.ts";
import type { Supervision } from "../train/run-folder.ts";
import type { PositivesOptions } from "./positives.ts";

export interface TrainOptions extends PositivesOptions {
  /** Folder of images, searched recursively, or a list of them (.txt); labels, if any, are ignored. Needed unless `resume`. */
  readonly data?: string | undefined;
  /** The run's folder; must not hold a run already, unless `resume`. */
  readonly out: string;
  /** Published settings by name; what else is given here goes before them. */
  readonly recipe?: string | undefined;
  /** @default "simclr" */
  readonly method?: string | undefined;
  /** @default "resnet18" */
  readonly encoder?: string | undefined;
  /** Height and width of the views, pixels. @default that of `IMAGE_SIZES` which is next to the images' own */
  readonly imageSize?: number | undefined;
  /** Settings of the method. */
  readonly config?: JsonObject | undefined;
  /** "sgd", "lars" or "adamw", or all settings of one. @default the encoder's or the method's */
  readonly optimizer?: ArtifactSpec["optimizer"];
  /** Folder of an artifact to train, in place of method, encoder, imageSize, config and optimizer. */
  readonly graph?: string | undefined;
  /** @default 100 */
  readonly epochs?: number | undefined;
  /** In place of epochs; 0 exports the encoder as initialised. */
  readonly steps?: number | undefined;
  /**
   * Images a step. @default 256, or 64 where views are larger than 64 pixels; or all if there are fewer, half of them
   * where negatives come of a memory bank
   */
  readonly batch?: number | undefined;
  /** Images at a time, for a batch larger than memory; the loss stays that of the whole batch. @default all */
  readonly microBatch?: number | undefined;
  /** Peak learning rate. @default the artifact's, times batch / 256 */
  readonly lr?: number | undefined;
  readonly weightDecay?: number | undefined;
  readonly warmupEpochs?: number | undefined;
  /** @default 0 */
  readonly seed?: number | undefined;
  /** Takes a fixed sample of this many images, balanced over the folders of classes if there are any. */
  readonly limit?: number | undefined;
  /** Steps between two checkpoints. @default an epoch's */
  readonly checkpointEvery?: number | undefined;
  /** Memory for decoded images, MB. @default 2048, or a quarter of all memory if that is less */
  readonly cacheMb?: number | undefined;
  /** "auto" takes the first of cuda, webgpu and cpu that works. @default "cpu" */
  readonly provider?: ProviderChoice | undefined;
  /**
   * What computes the steps: ONNX Runtime for Node, or its own training build for the web, which is portable and slower.
   * @default "node"
   */
  readonly engine?: Engine | undefined;
  /** Which of several GPUs, of the CUDA provider. @default 0 */
  readonly device?: number | undefined;
  /** A folder to look for CUDA's libraries in first. @default ORT_PRETRAIN_CUDA_LIBRARIES of the environment */
  readonly cudaLibraries?: string | undefined;
  /** Asks CUDA for kernels that give the same bytes each time; on the CPU it is always so. @default false */
  readonly deterministic?: boolean | undefined;
  /**
   * Of products on CUDA; in "bf16" and "fp16" feature maps are too, and for the latter the loss is scaled. Elsewhere all is
   * "fp32". @default "tf32" on CUDA
   */
  readonly precision?: Precision | undefined;
  /** True for precision "tf32", false for "fp32". */
  readonly tf32?: boolean | undefined;
  /** @default one for each core */
  readonly threads?: number | undefined;
  /** Labelled folder for kNN while training. */
  readonly knnData?: string | undefined;
  /** Epochs between two kNN. @default 1 */
  readonly knnEvery?: number | undefined;
  /**
   * Whether RankMe and alpha are measured: with each kNN, of its images; without `knnData` at the end of each epoch, of a
   * sample of the training images, if they are more than 100. @default true
   */
  readonly rank?: boolean | undefined;
  /**
   * Of a method that takes audio: a CSV of pictures and what is heard with them, see `findAudioPairs`. @default audio files
   * beside the pictures, of the same names
   */
  readonly audio?: string | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default 0 and 65535 where they have 16 */
  readonly range?: readonly [black: number, white: number] | undefined;
  /** Whether a run stops once its representation has collapsed; the signs are logged in any case. @default true */
  readonly guard?: boolean | undefined;
  /** First weights: another run's folder (its latest checkpoint), an encoder.onnx or timm's .safetensors. @default drawn */
  readonly init?: string | undefined;
  /** A folder for what TensorBoard reads: event files, and embeddings at the end. @default none are written */
  readonly tensorboard?: string | undefined;
  /** Learns from the classes of a labelled folder: what `finetune` asks for. @default labels are ignored */
  readonly supervision?: Omit<Supervision, "classes"> | undefined;
  /** Peak learning rate of the classifier. @default the artifact's, times batch / 256 */
  readonly headLr?: number | undefined;
  /** Goes on with the run in `out`; only data, provider, device, threads, cacheMb, guard, rank and tensorboard may differ from what it began with. */
  readonly resume?: boolean | undefined;
  /** With `resume`: trains so many steps longer than the run began with; schedules are planned over the whole. */
  readonly extendSteps?: number | undefined;
  /** As `extendSteps`, in epochs. */
  readonly extendEpochs?: number | undefined;
}
