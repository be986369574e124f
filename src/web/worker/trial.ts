/** A trial of a backend. */
import * as ort from "onnxruntime-node";
import { VIEW_COLUMNS } from "../../spec.ts";
import type { Beside } from "./beside.ts";
import type { Runtime } from "./runtime.ts";

/** Draws the views of a black image: rejects where the backend cannot. */
export async function tried({ manifest, views }: Beside, open: Runtime["open"]): Promise<void> {
  const { side } = manifest.encoder;
  const session = await open(views, "views.onnx");
  const feeds: Record<string, ort.Tensor> = {
    images: new ort.Tensor("uint8", new Uint8Array(side * side * 3), [1, side, side, 3]),
  };
  for (const [i] of manifest.views.entries()) {
    const row = new Float32Array(VIEW_COLUMNS.length).fill(1);
    feeds[`view${i}`] = new ort.Tensor("float32", row, [1, VIEW_COLUMNS.length]);
  }
  await session.run(feeds);
  await session.close();
}
