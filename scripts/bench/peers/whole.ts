/** Whole programs, as they are installed and started. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { lstat, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { inMegabytes, type Round, summarise } from "./compare.ts";
import { type Command, timeProgram } from "./program.ts";
import { flags, peer, ROOT, type Row, SMALL_IMAGES, type Surroundings, smallImages } from "./row.ts";

const WHOLE = { encoder: "resnet20", batch: 128, limit: SMALL_IMAGES };

/** The program as it is installed, and the plain script. */
async function wholePrograms(s: Surroundings, steps: number) {
  const data = await smallImages(s);
  const [run, weights] = [join(s.out, "run"), join(s.out, "weights.pt")];
  const { encoder, batch, limit } = WHOLE;
  const own: Command = {
    file: process.execPath,
    args: [
      join(ROOT, "dist/cli/main.js"),
      "train",
      "--no-report", // the script writes none
      "--no-rank", // nor measures any
      ...flags({ data, out: run, encoder, batch, limit, steps, "image-size": 32 }),
    ],
  };
  const other = peer(s, "train", ...flags({ data, out: weights, encoder, batch, limit, steps, size: 32 }));
  /** Until the first line of its metrics, which is written right after the first step. */
  const firstStep = async (running: () => boolean) => {
    const metrics = join(run, "metrics.jsonl");
    while (running() && !(existsSync(metrics) && (await stat(metrics)).size > 0)) await sleep(2);
  };
  return {
    own: async () => {
      await rm(run, { recursive: true, force: true });
      return timeProgram(own, firstStep);
    },
    other: () => timeProgram(other),
  };
}

/** dist/ as the sources are now. */
const build = () => promisify(execFile)("npm", ["run", "build"], { cwd: ROOT });

export const EPOCH: Row = {
  what: "one epoch, whole program: simclr, resnet20, 32 px, 2048 images from a folder",
  aim: ">= 1.2",
  measure: async (s) => {
    await build();
    const { own, other } = await wholePrograms(s, Math.floor(WHOLE.limit / WHOLE.batch));
    const rounds: Round[] = [];
    for (let i = 0; i < s.rounds; i++) {
      const rate = async (program: typeof own) => SMALL_IMAGES / (await program()).whole;
      rounds.push({ ours: await rate(own), peers: { eager: await rate(other) } });
    }
    return summarise(rounds, "images/s", "greatest");
  },
};

export const START: Row = {
  what: "start to the end of the first step",
  aim: "<= 0.5",
  measure: async (s) => {
    await build();
    const { own, other } = await wholePrograms(s, 1);
    await own(); // files are in the page cache from here on, on either side
    await other();
    const rounds: Round[] = [];
    for (let i = 0; i < s.rounds; i++) {
      rounds.push({ ours: (await own()).first, peers: { eager: (await other()).first } });
    }
    return { ...summarise(rounds, "s", "least"), note: "resnet20, 32 px, 128 images" };
  },
};

export const SIZE: Row = {
  what: "installed size",
  aim: "<= 0.5",
  measure: async (s) => {
    const { stdout } = await promisify(execFile)("npm", ["ls", "--omit=dev", "--all", "--parseable"], {
      cwd: ROOT,
    });
    await build();
    const [, ...packages] = stdout.trim().split("\n");
    const folders = [...new Set(packages), join(ROOT, "dist"), join(ROOT, "graphs")];
    // A package inside another's folder is counted with that one.
    const outer = folders.filter((a) => !folders.some((b) => a !== b && a.startsWith(`${b}/`)));
    const sizes = await Promise.all(outer.map(bytesIn));
    const { torch, bytes } = await aboutPeers(s);
    const result = summarise(
      inMegabytes([{ ours: sizes.reduce((a, b) => a + b, 0), peers: { [`torch ${torch}`]: bytes } }]),
      "MB",
      "least",
    );
    return {
      ...result,
      note: "without Node and Python; onnxruntime-node brings its libraries for every platform",
    };
  },
};

async function bytesIn(path: string): Promise<number> {
  const info = await lstat(path);
  if (!info.isDirectory()) return info.size;
  const inner = await Promise.all((await readdir(path)).map((name) => bytesIn(join(path, name))));
  return inner.reduce((a, b) => a + b, 0);
}

export type AboutPeers = Readonly<
  Record<"python" | "torch" | "torchvision" | "lightly" | "timm" | "pillow", string>
> & { readonly bytes: number };

/** Versions, and bytes on disk. */
export async function aboutPeers({ python }: Pick<Surroundings, "python">): Promise<AboutPeers> {
  const { stdout } = await promisify(execFile)(python, [join(import.meta.dirname, "about.py")]);
  return JSON.parse(stdout) as AboutPeers;
}
