/**
 * dist/cli/main.js as one file, its packages in it: to find and read 300 files takes a tenth of a second of each start. What
 * comes with binaries, or is needed by few commands, stays a package. Licences of what is in it go beside it.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const FOLDER = "dist/cli";
const PACKAGES = [
  "@cornerstonejs/codec-libjpeg-turbo-8bit",
  "koffi",
  "ml-matrix",
  "onnxruntime-node",
  "sharp",
];

const { metafile } = await build({
  entryPoints: ["src/cli/main.ts"],
  outfile: join(FOLDER, "main.js"),
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  external: PACKAGES,
  // For packages that are CommonJS.
  banner: {
    js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);',
  },
  metafile: true,
  logLevel: "warning",
});

const folders = Object.keys(metafile.inputs).flatMap(
  (path) => path.match(/^.*node_modules\/(@[^/]+\/)?[^/]+/)?.[0] ?? [],
);
const licences = [...new Set(folders)].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file === undefined ? "" : `\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
  return `${name} ${version}: ${license}\n${text}`;
});
writeFileSync(join(FOLDER, "LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
