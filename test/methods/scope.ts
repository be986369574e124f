/** A scope to build a method in, without views of images and without an encoder that is trained. */
import { input, type Tensor } from "../../src/graph/tensor.ts";
import type { StepScope } from "../../src/methods/method.ts";
import { Scope } from "../../src/nn/scope.ts";

/** Over views, and an encoder of the test's own (none by default); `seen` holds what was encoded. */
export function scopeOver(views: readonly Tensor[], encode: (x: Tensor) => Tensor = (x) => x) {
  const seen: Tensor[] = [];
  const scope = Object.assign(new Scope("training"), {
    views,
    encode: (x: Tensor) => {
      seen.push(x);
      return encode(x);
    },
  }) as unknown as StepScope;
  return { scope, seen };
}

/** Inputs view0, view1, ... in place of views of images, vectors [n, d]. */
export const vectorViews = (count = 2, d = 5): readonly Tensor[] =>
  Array.from({ length: count }, (_, i) => input(`view${i}`, "float32", ["n", d]));
