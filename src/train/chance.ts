/** The loss of a network that tells nothing: what a loss is held against. */
import type { Manifest } from "../spec.ts";

/** Of a step of `batch` images out of `images`; undefined where the manifest names none. */
export function chanceLoss(
  { chance, state }: Pick<Manifest, "chance" | "state">,
  { batch, images }: { readonly batch: number; readonly images: number },
): number | undefined {
  switch (chance?.kind) {
    case undefined:
      return undefined;
    case "constant":
      return chance.value;
    case "choice":
      return Math.log(chance.fixed + chance.perImage * batch);
    case "bank": {
      const rows = Math.max(0, ...state.map((entry) => entry.rows?.count ?? 0));
      const k = Math.min(rows, images - batch);
      return Math.log(k + 1) + (chance.each && k > 0 ? k * Math.log1p(1 / k) : 0);
    }
  }
}
