/**
 * What the page and its worker say to each other. The worker trains: it has the artifact, the images, the state and the
 * checkpoint; the page shows, and asks. Images are squares of the side that the artifact wants, RGB.
 */

/** Squares side by side, uint8 [count, side, side, 3]. */
export interface Squares {
  readonly side: number;
  readonly pixels: Uint8Array;
  /** One for each. */
  readonly names: readonly string[];
}

export type Backend = "webgpu" | "wasm";

/** What can be told of the artifact before anything is trained. */
export interface About {
  readonly method: string;
  readonly paper: string;
  readonly encoder: string;
  /** Of a view, pixels. */
  readonly imageSize: number;
  /** Of the squares that images are made into, pixels. */
  readonly side: number;
  /** The least number of images that it can train on. */
  readonly least: number;
  /** The run that its first weights are of; undefined where they are drawn. */
  readonly run?: string | undefined;
}

/** A checkpoint and its images in the page's own storage. */
export interface Stored {
  readonly step: number;
  readonly steps: number;
  readonly images: number;
  readonly batch: number;
}

export interface Settings {
  /** Images a step. */
  readonly batch: number;
  readonly steps: number;
  readonly seed: number;
}

/** Rows of neighbours: for each query, an index of an image, its nearest others, the nearest first. */
export interface Neighbours {
  readonly queries: readonly number[];
  readonly nearest: readonly (readonly number[])[];
}

export type Request =
  /** The first one. `backend` undefined takes WebGPU where it works, else wasm. */
  | { readonly kind: "open"; readonly backend?: Backend | undefined; readonly threads?: number | undefined }
  /** Trains on these images from the first weights; drops what is stored. */
  | { readonly kind: "begin"; readonly images: Squares; readonly settings: Settings }
  /** Goes on with what is stored, after a reload or a pause. */
  | { readonly kind: "resume" }
  /** Stops after the step at hand, with a checkpoint. */
  | { readonly kind: "pause" }
  /** Freezes the encoder as it stands: answered by "encoder". */
  | { readonly kind: "export" }
  /** Features of images by the exported encoder.onnx, and for each its nearest of the images trained on: "found". */
  | { readonly kind: "find"; readonly images: Squares; readonly count: number }
  /** Deletes what is stored. */
  | { readonly kind: "forget" };

export type Answer =
  | {
      readonly kind: "opened";
      readonly about: About;
      readonly backend: Backend;
      readonly threads: number;
      /** One line for people where it is not the fastest way, and why. */
      readonly note?: string | undefined;
      readonly stored?: Stored | undefined;
    }
  /** After a resume: the images that were stored, so that the page can show them. */
  | { readonly kind: "images"; readonly images: Squares }
  /** After each step, counted from 1. */
  | {
      readonly kind: "step";
      readonly step: number;
      readonly steps: number;
      readonly metrics: Readonly<Record<string, number>>;
      readonly imagesPerSecond: number;
    }
  /** Views of some images of a step, as the network sees them: for each recipe uint8 [rows, size, size, 3]. */
  | {
      readonly kind: "views";
      readonly rows: number;
      readonly views: readonly { readonly size: number; readonly pixels: Uint8Array }[];
    }
  /** Of the untrained encoder once, and of the present one every so often. */
  | {
      readonly kind: "neighbours";
      readonly when: "before" | "now";
      readonly step: number;
      readonly found: Neighbours;
    }
  | { readonly kind: "checkpoint"; readonly step: number }
  | { readonly kind: "paused"; readonly step: number; readonly done: boolean }
  /** encoder.onnx, checked against the encoder that was trained. */
  | {
      readonly kind: "encoder";
      readonly bytes: Uint8Array;
      readonly maxRelative: number;
      readonly step: number;
    }
  | { readonly kind: "found"; readonly features: readonly Float32Array[]; readonly nearest: Neighbours }
  | { readonly kind: "forgotten" }
  /** One line for people; the worker goes on where it can. */
  | { readonly kind: "failed"; readonly message: string };
