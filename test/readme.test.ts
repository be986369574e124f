/** The README's commands and TypeScript as they stand, but for the number of epochs, in a folder such as a reader has. */
import { execFile } from "node:child_process";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { expect } from "chai";
import sharp, { type Sharp } from "sharp";
import { findImages, openEncoder, type TrainResult } from "../src/index.ts";
import { noise, temporaryFolder } from "./data/folder.ts";
import { MAIN } from "./support/built.ts";
import { labelled, picture, pictures } from "./support/pictures.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** The README's blocks of a language, with one epoch in the place of a hundred. */
async function blocks(language: string): Promise<string[]> {
  const text = await readFile(join(ROOT, "README.md"), "utf8");
  const found = text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"));
  return [...found].map(([, code]) =>
    code!.replace("epochs: 100", "epochs: 1").replace("--epochs 100", "--epochs 1"),
  );
}

describe("README.md", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const home = process.cwd();

  before(async () => {
    // The package as it is installed, but for its sources in the place of dist/.
    const modules = { sharp: "node_modules/sharp", "onnxruntime-node": "node_modules/onnxruntime-node" };
    await mkdir(at("node_modules/ort-pretrain"), { recursive: true });
    for (const [name, path] of Object.entries({ ...modules, "ort-pretrain/src": "src" }))
      await symlink(join(ROOT, path), at(`node_modules/${name}`));
    const manifest = { name: "ort-pretrain", type: "module", exports: "./src/index.ts" };
    await folder.write("node_modules/ort-pretrain/package.json", JSON.stringify(manifest));
    await folder.write("package.json", '{"type": "module"}');
    for (const name of ["a.png", "b.png"]) await picture(at(`photos/${name}`), 0, 260, 230);
    for (const part of ["train", "test"]) await labelled(at(`labelled/${part}`), ["a", "b"], 3);
    process.chdir(folder.path);
  });
  after(() => process.chdir(home));

  /** What a block's variables hold in the end. */
  async function run(name: string, code: string, variables: readonly string[]) {
    const file = await folder.write(`${name}.ts`, `${code}\nexport { ${variables.join(", ")} };\n`);
    const { log } = console;
    console.log = () => {};
    try {
      return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
    } finally {
      console.log = log;
    }
  }

  it("names two commands for a fresh clone", async () => {
    const { scripts } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
    const [demo, tests] = await blocks("");
    expect([demo, tests]).to.deep.equal(["npm ci && npm run demo\n", "npm ci && npm test\n"]);
    expect(scripts).to.include.keys("demo", "test");
  });

  it("trains and probes by the program", async () => {
    const [, , commands] = await blocks("");
    const own = at("shell");
    await pictures(join(own, "photos"), 2);
    await symlink(at("labelled"), join(own, "labelled"));
    // As npm does it: the program is built already, and npx finds it.
    const script = `set -e\nnpm() { test "$*" = "run build"; }\nnpx() { shift; '${process.execPath}' '${MAIN}' "$@"; }\n`;
    const { stdout } = await promisify(execFile)("sh", ["-c", script + commands], { cwd: own });
    expect(stdout).to.match(
      /^1 steps \(1\.0 epochs\).*\nencoder: .*encoder\.onnx\nrun: .*\nreport: .*report\.html\nknn top-1 [\d.]+ % {2}\(/,
    );
  });

  it("trains, probes and encodes through the API", async () => {
    const [api] = (await blocks("ts")) as [string];
    const { run: trained, top1, features } = await run("api", api, ["run", "top1", "features"]);
    expect(trained as TrainResult).to.include({ steps: 1, encoder: at("runs/a/encoder.onnx") });
    expect(top1).to.be.within(0, 100);
    expect(features)
      .to.be.instanceOf(Float32Array)
      .with.length(2 * 512);
  });

  const photos: Readonly<Record<string, () => Sharp>> = {
    "a wide photograph": () => noise(300, 200).jpeg(),
    "a photograph taken upright": () => noise(120, 80).withMetadata({ orientation: 6 }).jpeg(),
    "transparent parts": () => transparent(90, 60).png(),
    "transparent gray": () => transparent(40, 50).toColourspace("b-w").png(),
    "one smaller than the network": () => noise(9, 20).png(),
  };
  for (const [what, draw] of Object.entries(photos)) {
    it(`gives the features of embed by the plain runtime: ${what}`, async () => {
      await draw().toFile(at("drawn"));
      await writeFile(at("photo.jpg"), await readFile(at("drawn")));
      await folder.write("one/photo.jpg", await readFile(at("drawn")));
      const [, plain] = (await blocks("ts")) as [string, string];
      const { features } = await run(`plain-${what.replaceAll(" ", "-")}`, plain, ["features"]);
      const encoder = await openEncoder(at("runs/a"));
      const embedded = await encoder.embed(await findImages(at("one")));
      await encoder.close();
      expect((features as { data: Float32Array }).data).to.deep.equal(embedded.features.data);
    });
  }
});

/** Shades that fade out from left to right. */
function transparent(width: number, height: number): Sharp {
  const pixels = Uint8Array.from({ length: width * height * 4 }, (_, i) => {
    const x = (i >> 2) % width;
    return i % 4 === 3 ? Math.round((255 * x) / (width - 1)) : (i * 37) % 256;
  });
  return sharp(pixels, { raw: { width, height, channels: 4 } });
}
