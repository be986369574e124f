/** The views of a step alone, for people to look at. */
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { constant, input, inScope, type Tensor } from "../graph/tensor.ts";
import { transpose } from "../ops/movement.ts";
import { affine } from "../ops/normalization.ts";
import { VIEW_COLUMNS, type ViewRecipe } from "../spec.ts";
import { augment, CHANNEL_MEAN, CHANNEL_STD } from "../views/augment.ts";

/** The output that holds the views of a recipe. */
export const pictureOf = (view: number): string => `picture${view}`;

/**
 * A graph of the operators that a step begins with: `images` uint8 [n, h, w, 3] and a recipe's parameters `view0`, ...
 * float32 [n, columns] to pictures float32 [n, size, size, 3], 0 (black) to 255 but for rounding.
 */
export function picturesGraph(recipes: readonly ViewRecipe[]): Uint8Array {
  const images = input("images", "uint8", ["n", "h", "w", 3]); // [n, h, w, 3]
  const params = recipes.map((_, i) => input(`view${i}`, "float32", ["n", VIEW_COLUMNS.length]));
  const views = inScope("views", () => augment(images, params, recipes)); // [n, 3, s, s] each
  const pictures = views.map((view, i) => [pictureOf(i), transpose(shown(view), [0, 2, 3, 1])] as const);
  return encodeModel(
    buildModel(Object.fromEntries(pictures), { name: "views", inputs: [images, ...params] }),
  );
}

/** What `normalise` was given, times 255; [n, 3, s, s]. */
const shown = (view: Tensor): Tensor => affine(view, row(CHANNEL_STD), row(CHANNEL_MEAN));
const row = (values: readonly number[]): Tensor =>
  constant(
    Float32Array.from(values, (value) => 255 * value),
    [3],
  );
