/** What a method builds a training step with. */
import { input, type Tensor } from "../graph/tensor.ts";
import type { ObjectTargets, Stages, StepScope } from "../methods/method.ts";
import { Scope } from "../nn/scope.ts";
import { cast, reshape, slice } from "../ops/movement.ts";
import {
  type DetectionEntry,
  type DetectionLevel,
  type ShareEntry,
  VIEW_COLUMNS,
  type ViewColumn,
} from "../spec.ts";

export interface StepViews {
  /** [n, 3, size, size] each. */
  readonly views: readonly Tensor[];
  /** Their parameters, float32 [n, columns] each. */
  readonly params: readonly Tensor[];
  /** Views [rows, 3, size, size] -> features [rows, d]. */
  readonly encode: (s: Scope, views: Tensor) => Tensor;
  /** Views [n, 3, size, size] -> feature maps [n, c, h, w]. @default none */
  readonly maps?: (s: Scope, views: Tensor) => readonly Tensor[];
  /** Float32 [n, samples]. */
  readonly audio?: Tensor | undefined;
  /** Audio [rows, samples] -> features [rows, d]. */
  readonly encodeAudio?: ((s: Scope, audio: Tensor) => Tensor) | undefined;
  /** The encoder's; made when it is asked for. @default none */
  readonly stages?: () => Stages;
}

const LABELS = "labels";
const OBJECTS = { classes: "objects.classes", distances: "objects.distances" };

export class TrainingScope extends Scope implements StepScope {
  readonly views: readonly Tensor[];
  private readonly given: StepViews;
  private ownLabels: Tensor | undefined;
  private ownObjects: { readonly inputs: readonly Tensor[]; readonly entry: DetectionEntry } | undefined;
  private readonly drawnShares = new Map<string, ShareEntry & { readonly tensor: Tensor }>();
  private readonly orders = new Map<string, Tensor>();

  constructor(given: StepViews) {
    super("training");
    this.views = given.views;
    this.given = given;
  }

  get audio(): Tensor {
    return taken(this.given.audio);
  }

  encodeAudio(audio: Tensor): Tensor {
    return this.in(AUDIO_ENCODER, () => taken(this.given.encodeAudio)(this, audio)); // [rows, d]
  }

  encode(views: Tensor): Tensor {
    return this.in("encoder", () => this.given.encode(this, views)); // [rows, d]
  }

  maps(views: Tensor): readonly Tensor[] {
    return this.in("encoder", () => this.given.maps?.(this, views) ?? []); // [n, c, h, w] each
  }

  drawn(view: number, column: ViewColumn): Tensor {
    const params = this.given.params[view]!; // [n, columns]
    const at = VIEW_COLUMNS.indexOf(column);
    return reshape(slice(params, { 1: [at, at + 1] }), [params.shape[0]!]); // [n]
  }

  permutation(name: string): Tensor {
    const order = this.orders.get(name) ?? input(name, "int64", [this.views[0]!.shape[0]!]); // [n]
    this.orders.set(name, order);
    return order;
  }

  labels(): Tensor {
    this.ownLabels ??= input(LABELS, "int64", [this.views[0]!.shape[0]!]); // [n]
    return cast(this.ownLabels, "float32"); // [n]
  }

  objects(levels: readonly DetectionLevel[], radius: number): ObjectTargets {
    const n = this.views[0]!.shape[0]!;
    const places = levels.reduce((sum, { side }) => sum + side ** 2, 0);
    const classes = input(OBJECTS.classes, "int64", [n, places]); // [n, places]
    const distances = input(OBJECTS.distances, "float32", [n, places, 4]); // [n, places, 4]
    this.ownObjects = { inputs: [classes, distances], entry: { ...OBJECTS, view: 0, levels, radius } };
    return { classes: cast(classes, "float32"), distances };
  }

  multiHot(classes: number): Tensor {
    this.ownLabels ??= input(LABELS, "float32", [this.views[0]!.shape[0]!, classes]);
    return this.ownLabels; // [n, classes]
  }

  share(name: string, alpha: number): Tensor {
    const { tensor } = this.drawnShares.get(name) ?? { tensor: input(name, "float32", []) }; // []
    this.drawnShares.set(name, { name, alpha, tensor });
    return tensor;
  }

  stages(): Stages {
    return this.given.stages?.() ?? { names: [], of: new Map() };
  }

  /** What a step is fed besides views, scalars and state, and what the manifest says of it. */
  get supervision() {
    const shares = [...this.drawnShares.values()];
    return {
      inputs: [
        ...(this.ownLabels ? [this.ownLabels] : []),
        ...(this.ownObjects?.inputs ?? []),
        ...shares.map(({ tensor }) => tensor),
      ],
      entries: {
        ...(this.ownLabels && { labels: LABELS }),
        ...(this.ownObjects && { detection: this.ownObjects.entry }),
        ...(this.ownLabels?.shape.length === 2 && { multiHot: this.ownLabels.shape[1] as number }),
        ...(shares.length > 0 && { shares: shares.map(({ name, alpha }) => ({ name, alpha })) }),
      },
    };
  }

  get permutations(): ReadonlyMap<string, Tensor> {
    return this.orders;
  }
}

/** The name scope of the audio encoder's state. */
export const AUDIO_ENCODER = "audioEncoder";

function taken<T>(of: T | undefined): T {
  if (of === undefined) throw new Error("the method states no audio");
  return of;
}
