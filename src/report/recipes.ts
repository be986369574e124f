/** How views are drawn, in words. */
import { isDeepStrictEqual } from "node:util";
import type { ViewRecipe } from "../spec.ts";

/** A line for each run of views that are drawn alike. */
export function recipesInWords(recipes: readonly ViewRecipe[]): readonly string[] {
  const lines: string[] = [];
  for (let from = 0; from < recipes.length; ) {
    const recipe = like(recipes[from]!);
    let to = from + 1;
    while (to < recipes.length && isDeepStrictEqual(like(recipes[to]!), recipe)) to++;
    const which = to - from === 1 ? `view ${to}` : `views ${from + 1} to ${to}`;
    lines.push(`${which}: ${partsOf(recipe).join(", ")}`);
    from = to;
  }
  return lines;
}

/** But for where a patch comes from. */
const like = ({ patch, ...recipe }: ViewRecipe): ViewRecipe =>
  patch ? { ...recipe, patch: { ...patch, cells: [] } } : recipe;

function partsOf(recipe: ViewRecipe): readonly string[] {
  const { size, crop, patch, jitter, randAugment, blur } = recipe;
  const [least, most] = crop.scale;
  const chance = (what: string, p: number | undefined) => (p ? [`${what} ${percent(p)}`] : []);
  const amounts = (["brightness", "contrast", "saturation", "hue"] as const)
    .filter((part) => jitter[part] > 0)
    .map((part) => `${part} ${jitter[part]}`);
  return [
    `${size} px`,
    least === most
      ? `crop of ${percent(least)} of the area`
      : `crop of ${percent(least)} to ${percent(most)} of the area`,
    ...(patch ? [`a patch of a grid of ${patch.grid} x ${patch.grid}`] : []),
    ...chance("flip", recipe.flip),
    ...(recipe.turn ? ["quarter turns"] : []),
    ...(jitter.p > 0 ? [`colour jitter ${percent(jitter.p)} (${amounts.join(", ")})`] : []),
    ...(randAugment
      ? [`colours of RandAugment (${randAugment.operations} operations, magnitude ${randAugment.magnitude})`]
      : []),
    ...chance("grayscale", recipe.grayscale),
    ...chance("dropped channels", recipe.dropChannels),
    ...(blur.p > 0 ? [`blur ${percent(blur.p)} (sigma ${blur.sigma.join(" to ")} px)`] : []),
    ...chance("solarize", recipe.solarize),
  ];
}

/** A share, rounded to what is read. */
export const percent = (share: number): string => `${Number((100 * share).toPrecision(3))} %`;
