import { cp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { randomFor } from "../../src/random.ts";
import { temporaryFolder } from "../data/folder.ts";
import { clips, listsOf, pictures, tinyArtifact } from "../support/pictures.ts";
import { computedOf, type Ended, metricsOf, reaches, run, runInTurn, start } from "../support/program.ts";

const STEPS = 32;
const KILLS = 4;
/** Steps from one checkpoint to the next. */
const CHECKPOINT = 4;

/** The bytes that a run must end with, and what it computed on the way (not how fast). */
async function outcome(out: string) {
  const checkpoints = (await readdir(join(out, "checkpoints"))).sort();
  const last = await readFile(join(out, "checkpoints", checkpoints.at(-1)!));
  const encoder = await readFile(join(out, "encoder.onnx"));
  const metrics = (await metricsOf(out)).map(computedOf);
  return { checkpoints, last, encoder, metrics };
}

describe("cli: a run that is cut off", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const begin = (data: string, out: string, graph = "graph") => [
    ...["train", "--data", at(data), "--out", at(out), "--graph", at(graph), "--steps", `${STEPS}`],
    ...["--batch", "4", "--threads", "1", "--checkpoint-every", `${CHECKPOINT}`, "--no-report"],
  ];
  const resume = (out: string) => ["train", "--resume", "--out", at(out), "--no-report"];

  async function sameAs(reference: string, out: string, steps = STEPS) {
    const [wanted, found] = [await outcome(at(reference)), await outcome(at(out))];
    expect(found.metrics.map(({ step }) => step)).to.deep.equal(
      Array.from({ length: steps }, (_, i) => i + 1),
    );
    expect(found.metrics).to.deep.equal(wanted.metrics);
    expect(found.checkpoints).to.deep.equal(wanted.checkpoints);
    expect(found.last.equals(wanted.last), "checkpoint").to.equal(true);
    expect(found.encoder.equals(wanted.encoder), "encoder.onnx").to.equal(true);
  }

  /** The first kill comes before the first checkpoint unless `after` a later step, the others at random moments. */
  async function killedOver(first: readonly string[], out: string, times = KILLS, after = 1) {
    const random = randomFor("kill", out);
    let args = first;
    let kills = 0;
    for (;;) {
      const { child, ended } = start(args);
      const from = (await metricsOf(at(out))).at(-1)?.step ?? 0;
      if (kills < times) {
        await reaches(
          at(out),
          kills === 0 ? from + after : Math.max(0, from - CHECKPOINT) + 1 + random.integer(8),
          child,
        );
        await new Promise((resolve) => setTimeout(resolve, random.uniform(0, 25)));
        if (child.kill("SIGKILL")) kills++;
      }
      const { code, stderr } = await ended;
      if (code === 0) break;
      expect(code, stderr).to.equal(null);
      args = resume(out);
    }
    expect(kills).to.equal(times);
  }

  /** State besides weights. */
  const kept = {
    "a queue and averages": { method: "moco", config: { queue: 12, dim: 8, splits: 2 } },
    "prototypes, frozen at first, and queues": {
      method: "swav",
      config: { prototypes: 8, hidden: 16, dim: 8, queue: 8, queueStart: 1, freeze: 5 },
    },
    "a memory bank": {
      method: "pirl",
      config: { loss: "nce", negatives: 8, dim: 8, permutations: 4, patchCropScale: 0.9 },
    },
  };
  const sourceOf = {
    frames: () => ["--positives", "frames", "--window", "2", "--far", "4"],
    tracks: () => ["--positives", "tracks", "--tracks", at("clips-tracks.csv")],
    pairs: () => ["--positives", "pairs", "--pairs", at("clips-pairs.csv")],
  };
  const ofItems = Object.entries(sourceOf).flatMap(([source, args]) =>
    ["graph", "graph-moco"].map((graph) => ({
      name: `${source}-${graph}`,
      args: (out: string) => [...begin("clips", out, graph), ...args()],
    })),
  );
  /** Runs that nothing cut off: of good images, with a broken one, of each method. */
  let references: readonly Ended[];

  before(async () => {
    await tinyArtifact(at("graph"));
    await pictures(at("good"), 25);
    await pictures(at("some"), 22);
    const png = await readFile(at("some/07.png"));
    await folder.write("some/07.png", png.subarray(0, png.length / 2));
    for (const spec of Object.values(kept)) await tinyArtifact(at(`graph-${spec.method}`), spec);
    const others = Object.values(kept).map(({ method }) =>
      begin("good", `reference-${method}`, `graph-${method}`),
    );
    await listsOf(await clips(at("clips")));
    references = await runInTurn([
      begin("good", "reference"),
      begin("some", "reference-some"),
      ...others,
      ...ofItems.map(({ name, args }) => args(`reference-${name}`)),
    ]);
    for (const { code, stderr } of references) expect(code, stderr).to.equal(0);
  });

  it("ends with the same bytes when it was killed at any moment", async () => {
    await killedOver(begin("good", "killed"), "killed");
    await sameAs("reference", "killed");
  });

  it("and with a broken image, with nothing kept in memory", async () => {
    expect(references[1]!.stderr.match(/^warning: .*some\/07\.png/gm)).to.have.length(1);
    await killedOver([...begin("some", "killed-some"), "--cache-mb", "0"], "killed-some", 2, CHECKPOINT + 1);
    await sameAs("reference-some", "killed-some");
  });

  for (const [what, { method }] of Object.entries(kept)) {
    it(`and with ${what}`, async () => {
      const out = `killed-${method}`;
      await killedOver(begin("good", out, `graph-${method}`), out, 1, CHECKPOINT + 1);
      await sameAs(`reference-${method}`, `killed-${method}`);
    });
  }

  for (const { name, args } of ofItems) {
    it(`and with positives that are not crops: ${name}`, async () => {
      await killedOver(args(`killed-${name}`), `killed-${name}`, 1, CHECKPOINT + 1);
      await sameAs(`reference-${name}`, `killed-${name}`);
    });
  }

  it("and when it is extended", async () => {
    const longer = (out: string) => [...resume(out), "--extend-steps", `${STEPS}`];
    for (const out of ["extended", "killed-extended"])
      await cp(at("reference"), at(out), { recursive: true });
    expect((await run(longer("extended"))).code).to.equal(0);
    await killedOver(longer("killed-extended"), "killed-extended", 1, CHECKPOINT + 1);
    await sameAs("extended", "killed-extended", 2 * STEPS);
  });

  it("writes a checkpoint on Ctrl-C and goes on from it", async () => {
    const { child, ended } = start([...begin("good", "interrupted"), "--json"]);
    await reaches(at("interrupted"), 2, child);
    child.kill("SIGINT");
    const { code, stdout } = await ended;
    expect(code).to.equal(130);
    const { steps, interrupted, encoder } = JSON.parse(stdout);
    expect({ interrupted, encoder }).to.deep.equal({ interrupted: true, encoder: null });
    expect(steps).to.be.within(2, STEPS - 1);
    const name = `step-${String(steps).padStart(8, "0")}.safetensors`;
    expect(await readdir(at("interrupted/checkpoints"))).to.include(name);

    const { stderr } = await run(resume("interrupted"));
    expect(stderr).to.contain(`going on at step ${steps} of ${STEPS}`);
    await sameAs("reference", "interrupted");
  });
});
