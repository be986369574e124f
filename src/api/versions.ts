/** The versions of the programs that a run rests on. */
import { createRequire } from "node:module";
import * as ort from "onnxruntime-node";

/** By name. */
export function versions(): Record<string, string> {
  const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
  return {
    "ort-pretrain": version,
    node: process.versions.node,
    onnxruntime: ort.env.versions.node ?? ort.env.versions.common,
  };
}
