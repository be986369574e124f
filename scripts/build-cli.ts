/** Writes dist/cli/main.js, the program as one file, and dist/cli/feed-worker.js, which prepares its batches. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build } from "esbuild";

/** Those that are left out of a bundle: with binaries, or that few commands need. */
export const PACKAGES = [
  "@cornerstonejs/codec-libjpeg-turbo-8bit",
  "koffi",
  "ml-matrix",
  "onnxruntime-node",
  "sharp",
  "umap-js",
  "uplot",
];

/** How programs become one file each. */
export const BUNDLED = {
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  external: PACKAGES,
  // For packages that are CommonJS.
  banner: {
    js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);',
  },
  logLevel: "warning",
} satisfies BuildOptions;

const source = (path: string) => fileURLToPath(new URL(`../src/${path}`, import.meta.url));

/**
 * Bundles the program with its packages into `main.js`, and what runs on another thread into `feed-worker.js`, in a folder two
 * levels below the project's root: finding and reading 300 files takes a tenth of a second of each start. The licences of the
 * bundled packages go beside them.
 */
export async function buildCli(folder: string): Promise<void> {
  const { metafile } = await build({
    entryPoints: { main: source("cli/main.ts"), "feed-worker": source("train/feed-worker.ts") },
    outdir: folder,
    ...BUNDLED,
    metafile: true,
  });
  writeFileSync(join(folder, "LICENSES.txt"), licencesOf(Object.keys(metafile.inputs)));
}

/** Between two licences. */
export const RULE = `\n${"-".repeat(80)}\n\n`;

/** Of the packages that files are of, one after the other. */
export function licencesOf(files: readonly string[]): string {
  const folders = files.flatMap((path) => path.match(/^.*node_modules\/(@[^/]+\/)?[^/]+/)?.[0] ?? []);
  const licences = [...new Set(folders)].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file === undefined ? "" : `\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
    return `${name} ${version}: ${license}\n${text}`;
  });
  return licences.join(RULE);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildCli("dist/cli");
