import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { compile, targetNamed } from "../../src/artifact/compile.ts";
import { audioVideo } from "../../src/methods/audio-video.ts";
import { initialState } from "../../src/runtime/state.ts";
import { drawStep } from "../../src/train/draws.ts";
import { failure } from "../data/folder.ts";
import {
  type Batch,
  batchOf,
  openGraph,
  type Scalars,
  type State,
  type Stepper,
  stepperOf,
} from "./stepping.ts";

const [CLIPS, DIM, N] = [5, 8, 40];
const config = {
  dim: DIM,
  hidden: 16,
  seconds: 0.1,
  mels: 16,
  rate: 8000,
  band: [60, 3900] as [number, number],
};
const artifactWith = (loss: "nce" | "infonce", headNorm = true) =>
  compile({
    method: "audio-video",
    encoder: "resnet20",
    imageSize: 16,
    config: { ...config, loss, headNorm },
  });
const infonce = artifactWith("infonce");
const SCALARS: Scalars = { lr: 1e-3, weightDecay: 1e-5, step: 1, temperature: 0.1, instances: N };

type Rows = readonly (readonly number[])[];
const rowsOf = ({ data, dims }: ort.Tensor): Rows => {
  const d = dims.at(-1)!;
  const values = Array.from(data as Float32Array);
  return Array.from({ length: values.length / d }, (_, i) => values.slice(i * d, (i + 1) * d));
};
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const mean = (values: readonly number[]) => sum(values) / values.length;
const unit = (row: readonly number[]) => row.map((v) => v / Math.hypot(...row));

/** One direction: queries against the rows of the other modality's bank. */
interface Scored {
  readonly queries: Rows;
  readonly own: Rows;
  readonly others: Rows;
  readonly temperature: number;
}

const exps = ({ queries, own, others, temperature }: Scored) =>
  queries.map((row, i) => [own[i]!, ...others].map((f) => Math.exp(dot(row, f) / temperature)));
const naiveInfoNce = (scored: Scored) => mean(exps(scored).map((e) => -Math.log(e[0]! / sum(e))));
const naiveZ = (scored: Scored) => N * mean(exps(scored).flat());
const naiveNce = (scored: Scored, z: number) => {
  const noise = scored.others.length / N;
  const h = (e: number) => e / z / (e / z + noise);
  return mean(
    exps(scored).map(([own, ...rest]) => -Math.log(h(own!)) - sum(rest.map((e) => Math.log(1 - h(e))))),
  );
};

/** With lr 0 a bank's row after the step is normalize((row + embedding) / 2), for embeddings of unit length: the embedding. */
function embeddingIn(before: Rows, after: Rows): Rows {
  return before.map((row, i) => {
    // after = (row + v) / s with |v| = 1: s is the positive root of |s after - row|^2 = 1.
    const b = dot(after[i]!, row);
    const s = b + Math.sqrt(b * b - dot(row, row) + 1);
    return after[i]!.map((x, k) => s * x - row[k]!);
  });
}

describe("audio-video", () => {
  let stepper: Stepper;
  let batch: Batch;
  let state: State;
  before(async () => {
    stepper = await stepperOf(infonce);
    batch = batchOf(infonce, CLIPS, 20);
    state = stepper.state(1, CLIPS);
  });

  const directions = (next: State, at: State, { views }: Batch, temperature: number): readonly Scored[] => {
    const [own, others, embeddings] = [
      new Map<string, Rows>(),
      new Map<string, Rows>(),
      new Map<string, Rows>(),
    ];
    for (const modality of ["image", "audio"]) {
      own.set(modality, rowsOf(at.get(`${modality}.bank`)!));
      others.set(modality, rowsOf(views[`${modality}.bank.others`]!));
      embeddings.set(modality, embeddingIn(own.get(modality)!, rowsOf(next.get(`${modality}.bank`)!)));
    }
    const scored = (from: string, to: string) => ({
      ...{ queries: embeddings.get(from)!, own: own.get(to)!, others: others.get(to)! },
      temperature,
    });
    return [scored("image", "audio"), scored("audio", "image")];
  };

  it("scores each modality against the other's bank as it was, and averages both directions", async () => {
    for (const temperature of [0.1, 0.5]) {
      const { outputs, metrics, next } = await stepper.step(state, batch, { ...SCALARS, temperature });
      const both = directions(next, state, batch, temperature);
      rowsOf(outputs.embedding!).forEach((row, i) => {
        row.forEach((x, k) => {
          expect(x, "the image's").to.be.closeTo(both[0]!.queries[i]![k]!, 1e-4);
        });
      });
      expect(metrics.loss).to.be.closeTo(mean(both.map(naiveInfoNce)), 1e-3);
      // Not within a modality, nor against the rows that the step leaves.
      const within = both.map((one, i) => ({ ...one, own: both[1 - i]!.own, others: both[1 - i]!.others }));
      expect(Math.abs(metrics.loss! - mean(within.map(naiveInfoNce)))).to.be.above(0.05);
    }
  });

  it("has the authors' noise-contrastive estimate, with a Z for each direction", async () => {
    const artifact = artifactWith("nce", false);
    const other = await stepperOf(artifact);
    const begin = other.state(2, CLIPS);
    const { metrics, next } = await other.step(begin, batch, SCALARS);
    const both = directions(next, begin, batch, 0.1);
    const z = both.map(naiveZ);
    ["audio", "image"].forEach((modality, i) => {
      expect(next.get(`${modality}.Z`)!.data[0]).to.be.closeTo(z[i]!, 2e-3 * z[i]!);
    });
    const loss = mean(both.map((scored, i) => naiveNce(scored, z[i]!)));
    expect(metrics.loss).to.be.closeTo(loss, 1e-3 * loss);
  });

  it("moves both banks by their momentum, to rows of length 1", async () => {
    const { next } = await stepper.step(state, batch, { ...SCALARS, lr: 0 });
    const fixed = compile({
      ...{ method: "audio-video", encoder: "resnet20", imageSize: 16 },
      config: { ...config, momentum: 0.9 },
    });
    const slower = await (await stepperOf(fixed)).step(state, batch, { ...SCALARS, lr: 0 });
    for (const modality of ["image.bank", "audio.bank"]) {
      const before = rowsOf(state.get(modality)!);
      const v = embeddingIn(before, rowsOf(next.get(modality)!));
      rowsOf(slower.next.get(modality)!).forEach((row, i) => {
        expect(Math.hypot(...row)).to.be.closeTo(1, 1e-5);
        const wanted = unit(before[i]!.map((old, k) => 0.9 * old + 0.1 * v[i]![k]!));
        row.forEach((x, k) => {
          expect(x, modality).to.be.closeTo(wanted[k]!, 1e-4);
        });
      });
    }
  });

  it("trains both encoders and heads by the other's bank, and takes no gradient into the banks", async () => {
    const { next } = await stepper.step(state, batch, SCALARS);
    const moved = (name: string) =>
      (next.get(name)!.data as Float32Array).some((x, i) => x !== state.get(name)!.data[i]);
    const weights = infonce.manifest.state.filter(
      ({ role, name }) => role === "param" && /weight$/.test(name),
    );
    for (const prefix of ["encoder.", "audioEncoder.", "projector.image.", "projector.audio."]) {
      const own = weights.filter(({ name }) => name.startsWith(prefix));
      expect(own, prefix).not.to.have.length(0);
      expect(
        own.every(({ name }) => moved(name)),
        prefix,
      ).to.equal(true);
    }
    // A bank has neither an optimizer's state nor another role than a buffer's, and moves with lr 0 as with any.
    const banks = infonce.manifest.state.filter(({ name }) => /(image|audio)\.bank/.test(name));
    expect(banks.map(({ name, role }) => [name, role])).to.deep.equal([
      ["audio.bank", "buffer"],
      ["image.bank", "buffer"],
    ]);
    const still = await stepper.step(state, batch, { ...SCALARS, lr: 0 });
    for (const { name } of banks) expect(next.get(name)!.data).to.deep.equal(still.next.get(name)!.data);
  });

  it("is fed a clip's own rows as positives, and never among the negatives of either bank", () => {
    const { state: entries, audio } = infonce.manifest;
    expect(entries.filter(({ rows }) => rows).map(({ rows }) => rows!.count)).to.deep.equal([1024, 1024]);
    const length = audio!.samples + 100;
    for (let step = 0; step < 20; step++) {
      const indices = [step % 7, 7 + (step % 5), 12];
      const sizes = indices.map(() => ({ height: 20, width: 20 }));
      const heard = indices.map(() => new Float32Array(length));
      const batch = { indices, sizes, audio: heard, epoch: 0, step };
      const { others } = drawStep(infonce.manifest as never, 4, batch, 15);
      for (const name of ["image.bank", "audio.bank"])
        expect([...others[name]!].sort((a, b) => a - b)).to.deep.equal(
          Array.from({ length: 15 }, (_, i) => i).filter((i) => !indices.includes(i)),
        );
    }
  });

  it("counts a clip as right when its row beats all negatives", async () => {
    const first = await stepper.step(state, batch, { ...SCALARS, lr: 0 });
    const [image, audio] = directions(first.next, state, batch, 0.1) as [Scored, Scored];
    // Three pictures have the audio's row that they look for, the others its opposite; no sound has.
    const bank = (rows: Rows, right: number) =>
      new ort.Tensor(
        "float32",
        Float32Array.from(rows.flatMap((row, i) => row.map((x) => (i < right ? x : -x)))),
        [CLIPS, DIM],
      );
    const told = new Map(state)
      .set("audio.bank", bank(image.queries, 3))
      .set("image.bank", bank(audio.queries, 0));
    const { metrics } = await stepper.step(told, batch, SCALARS);
    expect(metrics.accuracy).to.be.closeTo((3 / 5 + 0) / 2, 1e-6);
  });

  it("learns: the loss of five clips with fixed views falls", async () => {
    let at = state;
    const losses: number[] = [];
    for (let step = 1; step <= 15; step++) {
      const { metrics, next } = await stepper.step(at, batch, { ...SCALARS, lr: 0.01, step });
      losses.push(metrics.loss!);
      at = next;
    }
    expect(losses.at(-1)).to.be.lessThan(losses[0]! / 3);
  });

  it("computes the same in the forms of each target", async () => {
    const plain = await stepper.step(state, batch, SCALARS);
    for (const target of ["cpu", "cuda"] as const) {
      const spec = { method: "audio-video", encoder: "resnet20", imageSize: 16, config };
      const { metrics, next } = await (await stepperOf(compile(spec, targetNamed(target, 1)))).step(
        ...([state, batch, SCALARS] as const),
      );
      expect(metrics.loss).to.be.closeTo(plain.metrics.loss!, 1e-4);
      for (const name of ["audio.bank", "audioEncoder.bn0.running_mean"])
        expect(next.get(name)!.data[3]).to.be.closeTo(plain.next.get(name)!.data[3] as number, 1e-3);
    }
  });

  it("has graphs of both encoders, which give features and embeddings of unit length", async () => {
    const { graphs, manifest } = infonce;
    const weights = initialState(manifest, { seed: 1, images: CLIPS });
    const feeds = new Map(
      [...weights].map(([name, { data, shape }]) => [
        name,
        new ort.Tensor("float32", data as Float32Array, [...shape]),
      ]),
    );
    for (const [graph, name, width] of [
      [graphs.encode, "images", 64],
      [graphs.encodeAudio!, "audio", 64],
    ] as const) {
      const session = await openGraph(graph);
      const fed = session.inputNames
        .filter((input) => input !== name)
        .map((input) => [input, feeds.get(input)!]);
      const given = { images: batch.images, audio: batch.views.audio! }[name];
      const found = await session.run({ ...Object.fromEntries(fed), [name]: given });
      expect(Object.keys(found)).to.deep.equal(["features", "embedding"]);
      expect(found.features!.dims).to.deep.equal([CLIPS, width]);
      expect(found.embedding!.dims).to.deep.equal([CLIPS, DIM]);
      for (const row of rowsOf(found.embedding!)) expect(Math.hypot(...row)).to.be.closeTo(1, 1e-5);
      await session.release();
    }
  });

  it("has the authors' settings, and refuses audio that it cannot frame", async () => {
    const [large, small] = [224, 32].map((size) => audioVideo.config(size).parse({}));
    const same = {
      negatives: 1024,
      momentum: 0.5,
      dim: 128,
      hidden: 512,
      rate: 16_000,
      seconds: 2,
      mels: 64,
    };
    expect(large).to.include({
      ...same,
      loss: "nce",
      temperature: 0.07,
      headNorm: false,
      audioEncoder: "resnet10",
    });
    expect(small).to.include({ ...same, loss: "infonce", headNorm: true, audioEncoder: "resnet20" });
    expect(audioVideo.optimizer(224)).to.include({ name: "adamw", lr: 2e-4, weightDecay: 1e-5 });
    expect(audioVideo.audio!(large!)).to.deep.equal({
      ...{ encoder: "resnet10", rate: 16_000, samples: 32_000, volume: 0.1, embedding: 128 },
      spectrogram: { window: 400, hop: 160, mels: 64, low: 60, high: 7800 },
    });
    const spec = (config: object) => ({
      method: "audio-video",
      encoder: "resnet20",
      imageSize: 32,
      config: { ...config },
    });
    for (const [given, wanted] of [
      [{ seconds: 0.01 }, /setting "seconds": expected a window of 25 ms or more/],
      [{ rate: 8000 }, /setting "band": expected two frequencies up to half the rate \(4000 Hz\)/],
      [{ hop: 0.001 }, /setting "hop": expected a sample or more/],
      [{ audioEncoder: "resnet11" }, /unknown audio encoder "resnet11": did you mean "resnet10"\?/],
    ] as const)
      expect(await failure((async () => compile(spec(given)))())).to.match(wanted);
  });
});
