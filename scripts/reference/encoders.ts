/** Compares the features of models that encoders.py exported with PyTorch's. Usage: encoders.ts DIR */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openEncoder } from "../../src/api/encoder.ts";

const TOLERANCE = 1e-4;

const [dir = "."] = process.argv.slice(2);
for (const file of readdirSync(dir).filter((name) => name.endsWith(".json"))) {
  const name = file.replace(/\.json$/, "");
  const { shape, model } = JSON.parse(readFileSync(join(dir, file), "utf8"));
  const bytes = readFileSync(join(dir, `${name}.features`));
  const wanted = new Float32Array(new Uint8Array(bytes).buffer); // [n, d]
  const encoder = await openEncoder(join(dir, `${name}.onnx`), { model });
  const found = await encoder.encode(readFileSync(join(dir, `${name}.images`)), shape); // [n, d]
  await encoder.close();
  if (found.length !== wanted.length)
    throw new Error(`${name}: ${found.length} values, not ${wanted.length}`);
  const largest = wanted.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const off = wanted.reduce((most, x, i) => Math.max(most, Math.abs(x - found[i]!)), 0);
  process.stdout.write(`${name}: ${off.toExponential(1)} off, of values up to ${largest.toPrecision(3)}\n`);
  if (!(off <= TOLERANCE * Math.max(1, largest))) process.exitCode = 1;
}
