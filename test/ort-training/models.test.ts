/** The files of ONNX Runtime's training API, run by it as a page or a phone would. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { writeOrtTraining } from "../../src/api/ort-training.ts";
import type { ArtifactSpec } from "../../src/artifact/artifact-spec.ts";
import { compile } from "../../src/artifact/compile.ts";
import { loadFrom } from "../../src/runtime/training-web.ts";
import { runSchedules, scheduleValue } from "../../src/train/schedules.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { batchOf, stepperOf } from "../methods/stepping.ts";
import { openBrowser } from "../support/browser.ts";
import { run } from "../support/program.ts";

const RUNTIME = [join(import.meta.dirname, "../../node_modules/onnxruntime-training-web/dist")];
const N = 8;
/** Steps of a run on so many images, three of which are taken. */
const PLAN = { batch: N, images: 5 * N, epochs: 4 };
const SPEC = { method: "simclr", encoder: "resnet20", imageSize: 16 } as const;

type Tensor = { readonly type: string; readonly data: unknown; readonly dims: readonly number[] };

describe("ort-training", () => {
  const folder = temporaryFolder();
  const write = async (name: string, spec: ArtifactSpec, update: "graph" | "runtime") => {
    const dir = join(folder.path, name);
    await writeOrtTraining(dir, spec, { ...PLAN, update });
    const read = (file: string) => readFile(join(dir, file));
    return {
      trainModel: await read("training_model.onnx"),
      evalModel: await read("eval_model.onnx"),
      optimizerModel: await read("optimizer_model.onnx"),
      checkpointState: await read("checkpoint"),
    };
  };

  /** The losses of the usual loop of the API, and of the artifact's step; the last features of both. */
  async function both(name: string, spec: ArtifactSpec, update: "graph" | "runtime") {
    const web = await loadFrom(RUNTIME, 1);
    const models = await write(name, spec, update);
    const session = await web.TrainingSession.create(models, { logSeverityLevel: 4 });
    const compiled = compile(spec);
    const { manifest } = compiled;
    const stepper = await stepperOf(compiled);
    const batch = batchOf(compiled, N, 16);
    const schedules = runSchedules(manifest.scalars, {
      batch: N,
      lr: null,
      weightDecay: null,
      warmupEpochs: null,
    });
    const tensors = { images: batch.images, ...batch.views } as Readonly<Record<string, Tensor>>;
    let state = stepper.state(0);
    const losses: { readonly api: number; readonly ours: number }[] = [];
    const feeds = (names: readonly string[], scalars: Readonly<Record<string, number>>) =>
      Object.fromEntries(
        names.map((name) => {
          const { type, data, dims } = tensors[name] ?? {
            type: "float32",
            data: Float32Array.of(scalars[name]!),
            dims: [],
          };
          return [name, new web.Tensor(type, data, dims)];
        }),
      );
    let evaluated: Record<string, Tensor> = {};
    for (let step = 0; step < 3; step++) {
      const moment = { step, steps: 20, stepsPerEpoch: 5, images: PLAN.images };
      const scalars = Object.fromEntries(
        Object.entries(schedules).map(([key, schedule]) => [key, scheduleValue(schedule, moment)]),
      );
      if (step === 2) evaluated = await session.runEvalStep(feeds(session.evalInputNames, scalars));
      const out = await session.runTrainStep(feeds(session.trainingInputNames, scalars));
      await session.runOptimizerStep();
      await session.lazyResetGrad();
      const ours = await stepper.step(state, batch, scalars);
      if (step === 2) expect(evaluated.loss!.data).to.deep.equal(out.loss!.data);
      state = ours.next;
      losses.push({ api: out.loss!.data[0] as number, ours: ours.metrics.loss! });
    }
    await session.release();
    return { losses, evaluated };
  }

  for (const [update, optimizer] of [
    ["graph", "lars"],
    ["runtime", "adamw"],
    ["runtime", "sgd"],
  ] as const) {
    it(`trains by the API's loop as train does: ${optimizer}, updated by ${update}`, async () => {
      const { losses, evaluated } = await both(`${optimizer}-${update}`, { ...SPEC, optimizer }, update);
      for (const { api, ours } of losses) expect(api).to.be.closeTo(ours, 1e-4);
      expect(losses[2]!.ours).to.be.below(losses[0]!.ours - 1e-3); // its updates are seen
      // This runtime calls results by the training model's names: the features come after its own three outputs.
      expect(Object.values(evaluated)[3]!.dims).to.deep.equal([N, 64]);
    });
  }

  it("refuses what the runtime's optimizers cannot do, and to write over files of other hands", async () => {
    const to = join(folder.path, "refused");
    const told = (spec: ArtifactSpec) => failure(writeOrtTraining(to, spec, { update: "runtime" }));
    expect(await told({ ...SPEC, method: "simsiam" })).to.match(
      /^--update runtime: expected parameters that are updated alike, found predictor\..*, which has a rate of its own; take --update graph$/,
    );
    expect(await told({ ...SPEC, method: "swav" })).to.match(
      /^--update runtime: .* which (is projected|rests at first); /,
    );
    expect(await told({ ...SPEC, optimizer: "lars" })).to.match(
      /^--update runtime: expected optimizer sgd or adamw, found lars; /,
    );
    expect(await told({ ...SPEC, precision: "fp16" })).to.match(
      /^--update runtime: expected a loss that is not scaled, found precision fp16; take --update graph$/,
    );
    await folder.write("theirs/checkpoint", "mine");
    const theirs = join(folder.path, "theirs");
    expect(await failure(writeOrtTraining(theirs, SPEC))).to.equal(
      `${theirs}: expected nothing that an artifact would write over, found checkpoint; move it away`,
    );
  });

  it("is a format of graphs build", async () => {
    const out = join(folder.path, "cli");
    const flags = ["--method", "simclr", "--encoder", "resnet20", "--image-size", "16", "--out", out];
    const { code, stdout } = await run(["graphs", "build", "--format", "ort-training", ...flags]);
    expect(code).to.equal(0);
    expect(stdout).to.match(
      / {2}training_model\.onnx +\d+ kB\n.*eval_model.*\n.*optimizer_model.*\n.*checkpoint +\d+ kB\n/,
    );
    const wrong = await run(["graphs", "build", "--update", "runtime", ...flags]);
    expect(wrong.stderr).to.match(/^ort-pretrain: --update: expected it with --format ort-training/);
  });

  it("trains by the lines of docs/on-device.md, in a page", async function () {
    const browser = await openBrowser();
    if (!browser) return this.skip();
    try {
      const dir = join(folder.path, "docs");
      await writeOrtTraining(dir, { ...SPEC, imageSize: 32 });
      const text = await readFile(join(import.meta.dirname, "../../docs/on-device.md"), "utf8");
      const [, code] = /^```js\n(.*?)^```$/ms.exec(text)!;
      const page = await browser.newPage();
      await page.route("**/*", async (route) => {
        const { pathname } = new URL(route.request().url());
        if (pathname === "/")
          return route.fulfill({ contentType: "text/html", body: "<title>training</title>" });
        const [from] = /^\/ort.training/.test(pathname) ? RUNTIME : [dir];
        const contentType = pathname.endsWith(".mjs") ? "text/javascript" : "application/octet-stream";
        return route.fulfill({ contentType, body: await readFile(join(from!, pathname)) });
      });
      const losses: number[] = [];
      page.on("console", (message) => {
        if (message.type() === "log") losses.push(Number(message.text()));
      });
      await page.goto("http://localhost/");
      const ended = page.waitForEvent("console", { predicate: (message) => message.text() === "-1" });
      await page.addScriptTag({ type: "module", content: `${code}\nconsole.log(-1);` });
      await ended;
      expect(losses.slice(0, -1)).to.have.length(10);
      for (const loss of losses.slice(0, -1)) expect(loss).to.be.within(0.1, 5);
    } finally {
      await browser.close();
    }
  });
});
