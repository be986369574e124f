/** Writes dist/web/: what a page that trains needs besides its artifact, as `ort-pretrain web` copies it. */
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build } from "esbuild";
import { licencesOf, RULE } from "./build-cli.ts";
import { SAMPLE_LICENCE, sampleSheet } from "./web-sample.ts";

const SOURCES = fileURLToPath(new URL("../src/web", import.meta.url));
/** ONNX Runtime for WebGPU and WebAssembly; the second file starts its threads. */
const RUNTIME = ["ort-wasm-simd-threaded.asyncify.wasm", "ort-wasm-simd-threaded.asyncify.mjs"];

const BUNDLED = {
  bundle: true,
  platform: "browser",
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none", // LICENSES.txt has them
  // Its own files are found beside the page, where a policy allows scripts from.
  conditions: ["onnxruntime-web-use-extern-wasm"],
  alias: { "onnxruntime-node": "onnxruntime-web/webgpu" },
  // By this `ort-pretrain web` knows a folder that it may write over.
  banner: { js: "/* ort-pretrain web */" },
  logLevel: "warning",
  metafile: true,
} satisfies BuildOptions;

/** Writes into `folder`, over what is there. @param sample the sheet of the sample, drawn unless given */
export async function buildWeb(folder: string, sample?: Uint8Array): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const bundle = async (source: string, name: string) => {
    const entry = { in: join(SOURCES, source), out: name };
    const { metafile } = await build({ entryPoints: [entry], outdir: folder, ...BUNDLED });
    return Object.keys(metafile.inputs);
  };
  const inputs = [
    ...(await bundle("worker/main.ts", "worker")),
    ...(await bundle("page/main.ts", "page")),
    ...(await bundle("page/page.css", "page")),
  ];
  copyFileSync(join(SOURCES, "page/index.html"), join(folder, "index.html"));
  writeFileSync(join(folder, "sample.png"), sample ?? (await sampleSheet()));
  const runtime = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
  for (const file of RUNTIME) copyFileSync(join(runtime, file), join(folder, file));
  writeFileSync(join(folder, "LICENSES.txt"), [licencesOf(inputs), SAMPLE_LICENCE].join(RULE));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  rmSync("dist/web", { recursive: true, force: true }); // all that lies there becomes part of each page
  await buildWeb("dist/web");
}
