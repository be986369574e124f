/** The plain TypeScript of docs/detection.md as it stands. */
import { readFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { expect } from "chai";
import type { Tensor } from "onnxruntime-node";
import { openDetector } from "../src/index.ts";
import { noise, temporaryFolder } from "./data/folder.ts";
import { writeLinearDetector } from "./support/linear-detector.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

describe("docs/detection.md", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const home = process.cwd();
  after(() => process.chdir(home));

  it("runs detector.onnx in ten lines", async () => {
    const text = await readFile(join(ROOT, "docs/detection.md"), "utf8");
    const [, code] = /^```ts\n(.*?)^```$/ms.exec(text)!;
    expect(code!.split("\n").filter((line) => line && !line.startsWith("import"))).to.have.length.at.most(10);
    await symlink(join(ROOT, "node_modules"), at("node_modules"));
    await folder.write("package.json", '{"type": "module"}');
    const objects = [
      [4, 4, 8, 12, 0, 0.75],
      [0, 0, 4, 4, 0.5, 0],
    ];
    await writeLinearDetector(at("detector.onnx"), { objects, classes: ["cat", "dog"] });
    await noise(64, 96).withMetadata({ orientation: 6 }).jpeg().toFile(at("photo.jpg")); // 96 wide, 64 high as shown
    process.chdir(folder.path);
    const file = await folder.write("plain.ts", `${code}\nexport { boxes, scores, classes };\n`);
    const { log } = console;
    console.log = () => {};
    const found = await import(pathToFileURL(file).href).finally(() => {
      console.log = log;
    });
    const { boxes, scores, classes } = found as Record<string, Tensor>;
    expect([...(boxes!.data as Float32Array)]).to.deep.equal([24, 24, 48, 64, 0, 0, 24, 24]);
    expect([...(scores!.data as Float32Array)]).to.deep.equal([0.75, 0.5]);
    expect([...(classes!.data as BigInt64Array)]).to.deep.equal([1n, 0n]);
    const detector = await openDetector("detector.onnx");
    expect(detector.metadata.classes).to.deep.equal(["cat", "dog"]);
    await detector.close();
  });
});
