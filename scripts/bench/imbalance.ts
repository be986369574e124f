/**
 * SwAV on images whose classes are ten to one, with soft and with hard codes: how many prototypes are in use, and how
 * good the features are. `tsx scripts/bench/imbalance.ts --data DIR`, DIR with labelled folders train/ and test/;
 * prints a Markdown table.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, symlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { probe, train } from "../../src/index.ts";

const { values } = parseArgs({
  options: {
    data: { type: "string", default: "data" },
    out: { type: "string", default: "runs/imbalance" },
    steps: { type: "string", default: "400" },
  },
});
const { data, out } = values;
const [MANY, FEW] = [1000, 100];
const PROTOTYPES = 128;
const output = { stream: process.stderr, quiet: false };

/** Links to the first images of each class: many of every second class, few of the others, or as many of each. */
async function subset(dir: string, count: (place: number) => number): Promise<string> {
  await rm(dir, { recursive: true, force: true });
  const classes = (await readdir(join(data, "train"))).sort();
  for (const [place, name] of classes.entries()) {
    await mkdir(join(dir, name), { recursive: true });
    const files = (await readdir(join(data, "train", name))).sort().slice(0, count(place));
    for (const file of files) await symlink(resolve(data, "train", name, file), join(dir, name, file));
  }
  return dir;
}

if (!existsSync(join(data, "train"))) {
  console.error(`${data}: expected labelled folders train/ and test/; give --data DIR`);
  process.exit(2);
}
const even = (MANY + FEW) / 2;
const sets = {
  "10 : 1": await subset(join(out, "uneven"), (place) => (place % 2 ? FEW : MANY)),
  "1 : 1": await subset(join(out, "even"), () => even),
};
const rows: string[] = [];
for (const [classes, folder] of Object.entries(sets)) {
  for (const codes of ["soft", "hard"] as const) {
    const run = join(out, `${classes.startsWith("10") ? "uneven" : "even"}-${codes}`);
    await rm(run, { recursive: true, force: true });
    const settings = { method: "swav", encoder: "resnet20", imageSize: 32, batch: 128 } as const;
    const config = { codes, prototypes: PROTOTYPES, queue: 1024, queueStart: 2 };
    await train({ ...settings, config, data: folder, out: run, steps: Number(values.steps) }, { output });
    const lines = (await readFile(join(run, "metrics.jsonl"), "utf8")).trim().split("\n");
    const last = lines.slice(-50).map((line) => JSON.parse(line) as Record<string, number>);
    const mean = (name: string) => last.reduce((sum, line) => sum + line[name]!, 0) / last.length;
    const folders = { train: join(data, "train"), test: join(data, "test"), limit: 5000 };
    const { top1 } = await probe({ encoder: run, kind: "knn", ...folders });
    rows.push(
      `| ${classes} | ${codes} | ${(100 * mean("usage")).toFixed(0)} % | ${mean("codeEntropy").toFixed(2)} | ` +
        `${mean("loss").toFixed(2)} | ${top1.toFixed(1)} |`,
    );
  }
}
console.log(`| classes | codes | prototypes used in a batch | entropy of a code, nats | loss | kNN |
|---|---|---|---|---|---|
${rows.join("\n")}`);
