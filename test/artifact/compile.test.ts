import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { type ArtifactSpec, resolveSpec } from "../../src/artifact/artifact-spec.ts";
import {
  buildStep,
  type CompiledArtifact,
  compile,
  piecesFor,
  targetNamed,
} from "../../src/artifact/compile.ts";
import { readArtifact, writeArtifact } from "../../src/artifact/files.ts";
import { encoders } from "../../src/encoders/index.ts";
import { UserError } from "../../src/errors.ts";
import { reach } from "../../src/graph/model.ts";
import { decodeModel } from "../../src/graph/protos.ts";
import { methods } from "../../src/methods/index.ts";
import { optimizers } from "../../src/nn/optimizers.ts";
import { builtFor, portable } from "../../src/ops/target.ts";
import { randomFor } from "../../src/random.ts";
import { initialState } from "../../src/runtime/state.ts";
import { batchOf, openGraph, stepperOf } from "../methods/stepping.ts";

const small: ArtifactSpec = { method: "simclr", encoder: "resnet20", imageSize: 16 };
const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");
const digest = ({ manifest, graphs }: CompiledArtifact) =>
  [JSON.stringify(manifest), graphs.step, graphs.encode].map(sha256);
const folder = new URL("../..", import.meta.url);

describe("compile", () => {
  const specs: readonly ArtifactSpec[] = [
    small,
    { ...small, optimizer: "lars" },
    { method: "simclr", encoder: "vit-tiny", imageSize: 32 },
  ];

  let compiled: readonly CompiledArtifact[];
  before(() => {
    compiled = specs.map((spec) => compile(spec));
  });

  it("gives the same bytes again, in this process and in another", async () => {
    const here = compiled.map(digest);
    expect(specs.map((spec) => digest(compile(spec)))).to.deep.equal(here);
    const script = `
      import { createHash } from "node:crypto";
      import { compile } from "./src/artifact/compile.ts";
      const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
      const found = ${JSON.stringify([...specs].reverse())}.map((spec) => compile(spec)).map(({ manifest, graphs }) =>
        [JSON.stringify(manifest), graphs.step, graphs.encode].map(sha256));
      console.log(JSON.stringify(found.reverse()));`;
    const args = ["--import=tsx", "--input-type=module", "--eval", script];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: folder });
    expect(JSON.parse(stdout)).to.deep.equal(here);
  });

  it("has the graphs' inputs and outputs in its manifest", () => {
    for (const { manifest, graphs } of compiled) {
      const { graph } = decodeModel(graphs.step);
      expect(graph!.input.map(({ name }) => name)).to.deep.equal([
        "images",
        ...manifest.views.map((view) => view.input),
        ...manifest.scalars.map((scalar) => scalar.name),
        ...manifest.state.map((entry) => entry.name),
      ]);
      expect(graph!.output.map(({ name }) => name)).to.deep.equal([
        ...manifest.metrics,
        manifest.embedding,
        ...manifest.state.map((entry) => entry.next),
      ]);
      expect(manifest.metrics[0]).to.equal("loss");
    }
  });

  it("feeds to the encode graph nothing but the images and the encoder's state", () => {
    for (const { manifest, graphs } of compiled) {
      const { graph } = decodeModel(graphs.encode);
      const own = manifest.state.filter(({ name }) => name.startsWith("encoder."));
      const inputs = graph!.input.map(({ name }) => name);
      expect(inputs[0]).to.equal("images");
      expect(inputs.slice(1).sort()).to.deep.equal(own.map(({ name }) => name).sort());
      expect(graph!.output.map(({ name }) => name)).to.deep.equal(["features"]);
    }
  });

  it("keeps one slot of SGD and LARS and two of AdamW for each parameter", () => {
    for (const [optimizer, slots] of [
      ["sgd", ["momentum"]],
      ["lars", ["momentum"]],
      ["adamw", ["moment1", "moment2"]],
    ] as const) {
      const { state } = compile({ ...small, optimizer }).manifest;
      const params = state.filter(({ role }) => role === "param").map(({ name }) => name);
      const wanted = params.flatMap((name) => slots.map((slot) => `${slot}.${name}`));
      const found = state.filter(({ role }) => role === "optimizer").map(({ name }) => name);
      expect(found.sort()).to.deep.equal(wanted.sort());
    }
  });

  describe("written and read", () => {
    let dir: string;
    before(async () => {
      dir = await mkdtemp(join(tmpdir(), "compile-"));
    });
    after(() => rm(dir, { recursive: true }));

    // Every encoder and optimizer has a manifest of its own kind; the large ones compile in well under a second.
    const pairs = [
      ...encoders.map((encoder) => ({ ...small, encoder: encoder.name, imageSize: 32 })),
      ...Object.keys(optimizers).map((optimizer) => ({ ...small, optimizer })),
      { ...small, encoder: "resnet18", imageSize: 96 },
      { ...small, method: "fcos", config: { classes: 2, channels: 8 } },
    ];
    for (const spec of pairs) {
      it(`${spec.method}, ${spec.encoder} at ${spec.imageSize} px ${"optimizer" in spec ? `with ${spec.optimizer}` : ""}`, async () => {
        const { manifest, graphs } = compile(spec);
        await writeArtifact(join(dir, "artifact"), manifest, graphs);
        const read = await readArtifact(join(dir, "artifact"));
        const { files, ...rest } = read.manifest;
        expect(rest).to.deep.equal(manifest);
        expect(sha256(await read.graph("step"))).to.equal(sha256(graphs.step));
        expect(sha256(await read.graph("encode"))).to.equal(sha256(graphs.encode));
        expect(files.step!.bytes).to.equal(graphs.step.length);
      });
    }
  });

  it("trains a ViT by each method, with positions for the images that it is exported for", () => {
    for (const { name, config } of methods) {
      const imageSize = name === "cpc" ? 192 : 224;
      const few = { permutations: 4 };
      const spec = { method: name, encoder: "vit-tiny", imageSize };
      const { outputs } = buildStep(
        "permutations" in config(imageSize).parse({}) ? { ...spec, config: few } : spec,
      );
      const grid = imageSize / 16;
      const positions = outputs["encoder.pos_embed.next"]!;
      expect(positions.shape, name).to.deep.equal([1, 1 + grid * grid, 192]);
    }
  });

  it("takes a batch of any size", async () => {
    const artifact = compiled[0]!;
    const stepper = await stepperOf(artifact);
    for (const n of [1, 2, 5]) {
      // Images of another size than the views.
      const batch = batchOf(artifact, n, 12 + 4 * n);
      const scalars = { lr: 0.1, weightDecay: 0, temperature: 0.5 };
      const { outputs, metrics } = await stepper.step(stepper.state(1), batch, scalars);
      expect(outputs.embedding!.dims).to.deep.equal([2 * n, 128]);
      expect(outputs.embedding!.data as Float32Array).to.satisfy((z: Float32Array) =>
        z.every(Number.isFinite),
      );
      expect(metrics.loss).to.be.within(0, Math.log(2 * n - 1) + 4);
    }
  });

  describe("for a target", () => {
    const cases: ArtifactSpec[] = [
      { method: "simclr", encoder: "resnet20", imageSize: 16 },
      { method: "moco", encoder: "resnet20", imageSize: 16, config: { splits: 2, queue: 64 } },
      { method: "swav", encoder: "resnet18", imageSize: 16, config: { smallCrops: 2, prototypes: 16 } },
      { method: "jigsaw", encoder: "resnet20", imageSize: 32, config: { permutations: 4 } },
      { method: "swav", encoder: "vit-tiny", imageSize: 16, config: { smallCrops: 2, smallSize: 8 } },
      { method: "fcos", encoder: "resnet20", imageSize: 16, config: { classes: 3, channels: 16, convs: 1 } },
      // Large enough for views in pieces, with blur.
      { method: "simclr", encoder: "resnet20", imageSize: 96 },
    ];
    /** Of batch normalisation. */
    const BIASES = /^encoder\..*(bn\d|downsample\.1)\.bias$/;
    for (const spec of cases)
      it(`a step of ${spec.method} with ${spec.encoder} is the portable one`, async () => {
        const results = [];
        // One batch in four pieces; to cut others in two comes to the same, and half as large a graph.
        const pieces = spec === cases[0] ? 4 : 2;
        // CUDA's forms are the CPU's but for its normalisation and tokens that it adds.
        const own = spec === cases[0] || spec.encoder === "vit-tiny";
        const cuda = own ? [targetNamed("cuda", 1)] : [];
        for (const target of [portable, targetNamed("cpu", pieces), ...cuda]) {
          // AdamW's first step would take the sign of gradients that are rounding errors.
          const artifact = compile({ ...spec, optimizer: "sgd" }, target);
          const stepper = await stepperOf(artifact);
          const scalars = Object.fromEntries(artifact.manifest.scalars.map(({ name }) => [name, 0.3]));
          const batch = batchOf(artifact, 8, spec.imageSize);
          const state = stepper.state(1);
          // Few values may lie at a ReLU's corner, where a rounding error decides over their gradient.
          for (const [name, { data }] of state) if (BIASES.test(name)) (data as Float32Array).fill(3);
          results.push(await stepper.step(state, batch, scalars));
        }
        const [whole, ...others] = results as [(typeof results)[0], ...typeof results];
        for (const other of others) {
          expect(other.metrics.loss).to.be.closeTo(whole.metrics.loss!, 1e-4);
          expect([...other.next.keys()]).to.deep.equal([...whole.next.keys()]);
          // All of the state at once: a few values lie there all the same.
          let [off, size] = [0, 0];
          for (const [name, { data }] of whole.next) {
            const found = other.next.get(name)!.data as Float32Array;
            (data as Float32Array).forEach((v, i) => {
              off += (found[i]! - v) ** 2;
              size += v ** 2;
            });
          }
          expect(Math.sqrt(off / size)).to.be.below(1e-4);
        }
      });

    it("takes a batch that the pieces divide, and as few as that allows", () => {
      const simclr: ArtifactSpec = { method: "simclr", encoder: "resnet18", imageSize: 32 };
      const pieces = (batch: number, spec = simclr) => piecesFor(spec, batch);
      expect([1, 16, 32, 64, 100, 101, 102, 256].map((n) => pieces(n))).to.deep.equal([
        1, 2, 4, 8, 4, 1, 2, 8,
      ]);
      const large = (encoder: string, n: number) => pieces(n, { ...simclr, encoder, imageSize: 224 });
      expect([large("resnet50", 16), large("vit-tiny", 16)]).to.deep.equal([8, 8]); // of two images, for one fills a piece
      expect(large("vit-tiny", 256)).to.equal(32); // its views
      expect(pieces(48, { ...simclr, method: "moco" })).to.equal(2); // batch statistics of eighths besides
      // Views are larger than the maps that this encoder makes of one: half as many pieces of those, of two views each.
      const { outputs } = builtFor(targetNamed("cpu", 8), () => buildStep({ ...simclr, imageSize: 224 }));
      const stems = reach(Object.values(outputs)).nodes.filter(
        ({ op, scope }) => op.type === "Conv" && scope === "encoder.conv1",
      );
      expect(stems).to.have.length(2 * 4);
      const { manifest } = compile({ ...simclr, method: "moco" }, targetNamed("cpu", 2));
      expect([manifest.pieces, manifest.batchMultiple]).to.deep.equal([2, 16]);
    });
  });

  it("encodes images of any size, each to features of its own", async () => {
    const { manifest, graphs } = compiled[0]!;
    const session = await openGraph(graphs.encode);
    const state = [...initialState(manifest, { seed: 1, images: 1 })]
      .filter(([name]) => session.inputNames.includes(name))
      .map(
        ([name, { data, shape }]) =>
          [name, new ort.Tensor("float32", data as Float32Array, [...shape])] as const,
      );
    const encode = async (
      n: number,
      height: number,
      width: number,
      value: (i: number, c: number) => number,
    ) => {
      const pixels = new Uint8Array(n * height * width * 3);
      for (let at = 0; at < pixels.length; at++)
        pixels[at] = value(Math.floor(at / (height * width * 3)), at % 3);
      const images = new ort.Tensor("uint8", pixels, [n, height, width, 3]);
      const { features } = await session.run({ images, ...Object.fromEntries(state) });
      expect(features!.dims).to.deep.equal([n, manifest.encoder.features]);
      return features!.data as Float32Array;
    };
    const random = randomFor("colours");
    const colours = Array.from({ length: 3 }, () => [0, 0, 0].map(() => random.integer(256)));
    const flat = await encode(3, 16, 16, (i, c) => colours[i]![c]!);
    const rows = [0, 1, 2].map((i) => flat.slice(i * 64, (i + 1) * 64));
    expect(rows[0]).not.to.deep.equal(rows[1]);
    // An image of one colour stays that when it is resized, so its features must stay, too.
    for (const [height, width] of [
      [1, 1],
      [7, 30],
      [16, 48],
      [100, 33],
    ] as const) {
      const found = await encode(1, height, width, (_, c) => colours[1]![c]!);
      const scale = Math.max(...rows[1]!);
      found.forEach((v, k) => {
        expect(v, `${height} x ${width}`).to.be.closeTo(rows[1]![k]!, 1e-3 * scale);
      });
    }
  });

  it("fills in what a spec leaves out", () => {
    const { method, encoder, optimizer } = resolveSpec({ ...small, config: { temperature: 0.2 } });
    expect(method.config).to.include({ temperature: 0.2, projection: 128 });
    expect(encoder).to.include({ name: "resnet20", imageSize: 16, features: 64 });
    const rates = { lr: 0.12, weightDecay: 5e-4, warmupEpochs: 1 };
    expect(optimizer).to.deep.equal({ name: "sgd", config: { ...rates, momentum: 0.9, nesterov: false } });
    expect(resolveSpec({ ...small, encoder: "vit-tiny", imageSize: 32 }).optimizer.name).to.equal("adamw");
    expect(resolveSpec({ ...small, encoder: "resnet50", imageSize: 224 }).optimizer.name).to.equal("lars");
    const asked = { ...small, encoder: "vit-tiny", imageSize: 32, optimizer: "sgd" };
    expect(resolveSpec(asked).optimizer.name).to.equal("sgd");
  });

  it("has a setting's value in its graph's scalars", () => {
    const { scalars } = compile({ ...small, config: { temperature: 0.2 } }).manifest;
    const { schedule } = scalars.find(({ name }) => name === "temperature")!;
    expect(schedule).to.deep.equal({ kind: "constant", value: 0.2 });
  });

  describe("names the nearest of what it knows", () => {
    const refused: [what: string, spec: ArtifactSpec, message: string][] = [
      ["method", { ...small, method: "simclrr" }, 'unknown method "simclrr": did you mean "simclr"?'],
      [
        "encoder",
        { ...small, encoder: "resnet-20" },
        'unknown encoder "resnet-20": did you mean "resnet20"?',
      ],
      ["optimizer", { ...small, optimizer: "adam" }, 'unknown optimizer "adam": did you mean "adamw"?'],
      [
        "setting",
        { ...small, config: { temprature: 0.5 } },
        'unknown setting of method simclr "temprature": did you mean "temperature"?',
      ],
    ];
    for (const [what, spec, message] of refused) {
      it(what, () => expect(() => compile(spec)).to.throw(UserError, message));
    }

    it("and lists all where none is near", () => {
      const known = methods.map(({ name }) => name).join(", ");
      expect(() => compile({ ...small, method: "photosynthesis" })).to.throw(
        `unknown method "photosynthesis" (known: ${known})`,
      );
    });
  });

  it("refuses a setting out of range, by name", () => {
    for (const [key, value] of Object.entries({
      temperature: 0,
      projection: 1.5,
      blur: 2,
      cropScale: "all",
    })) {
      const build = () => compile({ ...small, config: { [key]: value } });
      expect(build, key).to.throw(UserError, `method simclr, setting "${key}": `);
    }
  });
});
