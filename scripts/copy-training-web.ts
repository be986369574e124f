/** Puts ONNX Runtime's training build for the web, 12 MB of a package of 106, into dist/training-web/. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const FILES = [
  "ort.training.wasm.min.mjs",
  "ort-training-wasm-simd-threaded.mjs",
  "ort-training-wasm-simd-threaded.wasm",
];

export function copyTrainingWeb(folder: string): void {
  const from = fileURLToPath(new URL("../node_modules/onnxruntime-training-web", import.meta.url));
  const { name, version, license } = JSON.parse(readFileSync(join(from, "package.json"), "utf8"));
  mkdirSync(folder, { recursive: true });
  for (const file of FILES) copyFileSync(join(from, "dist", file), join(folder, file));
  writeFileSync(join(folder, "LICENSES.txt"), `${name} ${version}: ${license}, (c) Microsoft Corporation\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) copyTrainingWeb("dist/training-web");
