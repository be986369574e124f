import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { readArtifact, writeArtifact } from "../../src/artifact/files.ts";
import { scheduleSchema } from "../../src/artifact/schema.ts";
import { UserError } from "../../src/errors.ts";
import type { Manifest } from "../../src/spec.ts";

const manifest: Omit<Manifest, "files"> = {
  format: 1,
  name: "simclr-tiny",
  opset: 17,
  method: { name: "simclr", paper: "Chen et al. 2020", config: { temperature: 0.5, layers: [128, 64] } },
  encoder: { name: "tiny", imageSize: 32, side: 32, features: 64 },
  optimizer: { name: "sgd", config: {} },
  views: [
    {
      input: "view0",
      recipe: {
        size: 32,
        crop: { scale: [0.08, 1], ratio: [0.75, 4 / 3] },
        flip: 0.5,
        jitter: { p: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 },
        grayscale: 0.2,
        blur: { p: 0.5, sigma: [0.1, 2] },
        solarize: 0,
        group: { name: "grid", color: true },
        patch: { grid: 3, cells: [0, 8], side: 0.75, jitter: 0.5 },
        turn: true,
        dropChannels: 0.5,
      },
    },
  ],
  permutations: ["shuffle"],
  pieces: 1,
  batchMultiple: 2,
  scalars: [
    { name: "lr", schedule: { kind: "cosine", from: 0.3, to: 0, warmupEpochs: 10 }, batchScaling: "linear" },
    {
      name: "drop",
      schedule: { kind: "steps", from: 1, factor: 0.1, at: [0.6, 0.8], warmupEpochs: 0 },
      batchScaling: "none",
    },
  ],
  state: [
    {
      name: "w",
      role: "param",
      dtype: "float32",
      shape: [3, 4],
      init: { kind: "normal", std: 0.1 },
      next: "w'",
    },
    {
      name: "ema.w",
      role: "average",
      dtype: "float32",
      shape: [3, 4],
      init: { kind: "copy", of: "w" },
      next: "e'",
    },
    {
      name: "bank",
      role: "buffer",
      dtype: "float32",
      shape: [4],
      init: { kind: "directions" },
      next: "bank'",
      rows: { others: "bank.others", count: 4096 },
    },
    {
      name: "at",
      role: "buffer",
      dtype: "int64",
      shape: [],
      init: { kind: "constant", value: 0 },
      next: "at'",
    },
  ],
  metrics: ["loss", "accuracy"],
  embedding: "z",
};
const graphs = { step: new Uint8Array([1, 2, 3]), encode: new Uint8Array([4, 5]) };

async function messageOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).to.be.instanceOf(UserError);
  expect((error as UserError).message).not.to.include("\n");
  return (error as UserError).message;
}

describe("artifact/files", () => {
  let parent: string;
  let dir: string;
  let path: string;
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "artifact-"));
    dir = join(parent, "graphs", "x");
    path = join(dir, "manifest.json");
  });
  afterEach(() => rm(parent, { recursive: true }));

  it("gives back what was written", async () => {
    const written = await writeArtifact(dir, manifest, graphs);
    expect(written).to.deep.include(manifest);
    expect(written.files.step).to.deep.equal({
      file: "step.onnx",
      bytes: 3,
      sha256: "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81",
    });
    const read = await readArtifact(dir);
    expect(read.dir).to.equal(dir);
    expect(read.manifest).to.deep.equal(written);
    expect(await read.graph("step")).to.deep.equal(graphs.step);
    expect(await read.graph("encode")).to.deep.equal(graphs.encode);
    expect(await readdir(join(dir, ".."))).to.deep.equal(["x"]);
  });

  it("keeps what a batch must hold and the loss of chance, which older manifests do without", async () => {
    const more = {
      multipleOf: "splits",
      least: { images: 4, why: "its projector takes batch statistics" },
      leastOfPart: { images: 2, why: "so do its parts" },
    };
    const chances = [
      { kind: "constant", value: 4 },
      { kind: "choice", fixed: -1, perImage: 2 },
      { kind: "bank", each: true },
    ] as const;
    for (const chance of chances) {
      await writeArtifact(dir, { ...manifest, ...more, chance }, graphs);
      expect((await readArtifact(dir)).manifest).to.deep.include({ ...more, chance });
    }
    const older = await writeArtifact(dir, manifest, graphs);
    expect(older).not.to.have.any.keys("multipleOf", "least", "leastOfPart", "chance");
  });

  it("writes the same bytes whatever the order of the keys", async () => {
    await writeArtifact(dir, manifest, graphs);
    const turned = Object.fromEntries(Object.entries(manifest).reverse()) as unknown as typeof manifest;
    await writeArtifact(join(parent, "y"), turned, graphs);
    const text = await readFile(path, "utf8");
    expect(await readFile(join(parent, "y", "manifest.json"), "utf8")).to.equal(text);
    expect(text)
      .to.match(/^\{\n {2}"format": 1,\n/)
      .and.match(/\n\}\n$/);
  });

  it("replaces an older artifact", async () => {
    await writeArtifact(dir, manifest, graphs);
    await writeArtifact(dir, { ...manifest, name: "second" }, graphs);
    expect((await readArtifact(dir)).manifest.name).to.equal("second");
    expect(await readdir(dir)).to.deep.equal(["encode.onnx", "manifest.json", "step.onnx"]);
  });

  it("writes through a link to a folder", async () => {
    await writeArtifact(dir, manifest, graphs);
    await symlink(dir, join(parent, "link"));
    await writeArtifact(join(parent, "link"), { ...manifest, name: "second" }, graphs);
    expect((await readArtifact(dir)).manifest.name).to.equal("second");
  });

  it("writes beside what else a folder holds, and over nothing that is not an artifact's", async () => {
    await mkdir(dir, { recursive: true });
    const others = [".DS_Store", "config.json", "photo.jpg", "train.log"];
    for (const name of others) await writeFile(join(dir, name), "kept");
    await writeFile(join(dir, "encode.onnx"), "\b\b\u0012\fort-pretrain: cut off before the manifest");
    const refused = async (name: string, content: string) => {
      await writeFile(join(dir, name), content);
      expect(await messageOf(writeArtifact(dir, manifest, graphs))).to.equal(
        `${dir}: expected nothing that an artifact would write over, found "${name}"; ` +
          "move it away or choose another folder",
      );
      expect(await readFile(join(dir, name), "utf8")).to.equal(content);
      await rm(join(dir, name));
    };
    await refused("step.onnx", "\b\b\u0012\u0007pytorch: a model of another's");
    await refused("manifest.json", '{"name":"a web app","format":1}');
    await refused("manifest.json", "no JSON");
    await rm(join(dir, "config.json"));
    await writeArtifact(dir, manifest, graphs);
    expect(await readdir(dir)).to.have.members([
      ...["encode.onnx", "manifest.json", "step.onnx"],
      ...others.filter((name) => name !== "config.json"),
    ]);
    await writeFile(join(dir, "config.json"), "{}");
    expect(await messageOf(writeArtifact(dir, manifest, graphs))).to.match(/found a run; choose another/);
    await writeFile(join(parent, "file"), "kept");
    expect(await messageOf(writeArtifact(join(parent, "file"), manifest, graphs))).to.match(
      /file: expected a folder, found a file/,
    );
    expect(await readFile(join(parent, "file"), "utf8")).to.equal("kept");
  });

  it("cut off before its manifest, reads as damaged", async () => {
    await writeArtifact(dir, manifest, graphs);
    const before = await readFile(join(dir, "manifest.json"));
    await writeArtifact(dir, manifest, { ...graphs, step: Uint8Array.of(9, 9, 9) });
    await writeFile(join(dir, "manifest.json"), before);
    const artifact = await readArtifact(dir);
    expect(await messageOf(artifact.graph("step"))).to.match(/rebuild it/);
  });

  it("writes nothing that could not be read", async () => {
    await writeArtifact(dir, manifest, graphs);
    const bad = { ...manifest, state: [{ ...manifest.state[0]!, shape: [0] }] };
    expect(await messageOf(writeArtifact(dir, bad, graphs))).to.match(
      /state\[0\].shape\[0\]: expected more than 0/,
    );
    expect((await readArtifact(dir)).manifest.state).to.have.length(4);
  });

  it("says what is wrong with a graph", async () => {
    await writeArtifact(dir, manifest, graphs);
    const { graph } = await readArtifact(dir);
    const file = join(dir, "step.onnx");
    await writeFile(file, "12");
    expect(await messageOf(graph("step"))).to.equal(
      `${file}: expected the manifest's 3 bytes, found 2; rebuild it with "ort-pretrain graphs build"`,
    );
    await writeFile(file, new Uint8Array([1, 2, 7]));
    expect(await messageOf(graph("step"))).to.match(/step.onnx: expected the manifest's sha256 0390/);
    await rm(file);
    expect(await messageOf(graph("step"))).to.match(
      /step.onnx: expected a graph, found no such file; rebuild/,
    );
  });

  it("says what is wrong with a file that is no manifest", async () => {
    expect(await messageOf(readArtifact(dir))).to.match(
      /manifest.json: expected a manifest, found no such file/,
    );
    await mkdir(dir, { recursive: true });
    const refusal = async (content: string | Uint8Array) => {
      await writeFile(path, content);
      return messageOf(readArtifact(dir));
    };
    expect(await refusal("not JSON")).to.equal(
      `${path}: expected JSON, found something else; rebuild it with "ort-pretrain graphs build"`,
    );
    expect(await refusal("null")).to.match(/expected object, found null/);
    expect(await refusal('{"format":2}')).to.match(
      /expected format 1, found 2; a newer ort-pretrain wrote it/,
    );
    expect(await refusal('{"format":0}')).to.match(/manifest.json: format: expected 1, found 0/);
    expect(await refusal(new Uint8Array(4e6 + 1).fill(0x20))).to.match(/a manifest of at most 4 MB/);
    expect(await refusal('{"method":{"config":{"__proto__":{"polluted":1}}}}')).to.match(/"__proto__"/);
    expect(await refusal("[".repeat(1e6) + "]".repeat(1e6))).to.match(/deep|JSON/);
  });

  describe("refuses a manifest with", () => {
    type Change = [what: string, at: (string | number)[], value: unknown, message: string];
    const { recipe } = manifest.views[0]!;
    const [w, ema] = manifest.state;
    const changes: Change[] = [
      ["an unknown key", ["extra"], 1, "extra: expected no such key, found 1"],
      ["a missing key", ["opset"], undefined, "opset: expected number, found nothing"],
      ["a part of the wrong type", ["method"], [1], "method: expected object, found [1]"],
      [
        "a config that is a list",
        ["optimizer", "config"],
        [],
        "optimizer.config: expected an object, found []",
      ],
      [
        "a path as a file",
        ["files", "step", "file"],
        "../step.onnx",
        "files.step.file: expected a plain file name",
      ],
      ["a folder in a file", ["files", "step", "file"], "a/b", "files.step.file: expected a plain file name"],
      [
        "a backslash in a file",
        ["files", "step", "file"],
        "a\\b",
        "files.step.file: expected a plain file name",
      ],
      [
        "one file twice",
        ["files", "encode", "file"],
        "step.onnx",
        "files.encode.file: expected a new name of a file",
      ],
      ["a graph too large", ["files", "step", "bytes"], 1e9, "files.step.bytes: expected at most 512000000"],
      [
        "a sha256 too short",
        ["files", "step", "sha256"],
        "ab",
        "files.step.sha256: expected 64 hexadecimal digits",
      ],
      ["no views", ["views"], [], "views: expected at least 1 entries, found []"],
      ["no metrics", ["metrics"], [], "metrics: expected at least 1 entries"],
      [
        "a probability above 1",
        ["views", 0, "recipe", "flip"],
        2,
        "views[0].recipe.flip: expected at most 1, found 2",
      ],
      [
        "bounds in the wrong order",
        ["views", 0, "recipe"],
        { ...recipe, blur: { p: 1, sigma: [2, 1] } },
        "views[0].recipe.blur.sigma: expected the lower bound first, found [2,1]",
      ],
      [
        "a cell outside of its grid",
        ["views", 0, "recipe", "patch", "cells"],
        [0, 9],
        "views[0].recipe.patch: expected cells of the grid",
      ],
      [
        "a permutation named as a scalar",
        ["permutations", 0],
        "lr",
        "permutations[0]: expected a new name of an input",
      ],
      ["a batch of no images", ["batchMultiple"], 0, "batchMultiple: expected more than 0, found 0"],
      [
        "a choice among none",
        ["chance"],
        { kind: "choice", fixed: -1, perImage: 1 },
        "chance: expected one choice or more for an image",
      ],
      [
        "a reason on two lines",
        ["least"],
        { images: 2, why: "a\nb" },
        "least.why: expected a printable name",
      ],
      [
        "other rows named as a state",
        ["state", 2, "rows", "others"],
        "w",
        "state[2].rows.others: expected a new name of an input",
      ],
      [
        "a bank of whole numbers",
        ["state", 2, "dtype"],
        "int64",
        "state[2].dtype: expected float32 for a memory bank",
      ],
      [
        "a copy of a bank",
        ["state", 1],
        { ...ema, shape: [4], init: { kind: "copy", of: "bank" } },
        "state[1].init.of: expected a state tensor",
      ],
      [
        "an unknown dtype",
        ["state", 0, "dtype"],
        "float16",
        'state[0].dtype: expected "float32" or "uint8" or',
      ],
      [
        "an unknown init",
        ["state", 0, "init"],
        { kind: "magic" },
        "state[0].init.kind: expected a known one",
      ],
      [
        "an unknown schedule",
        ["scalars", 0, "schedule", "kind"],
        "sine",
        "scalars[0].schedule.kind: expected a known",
      ],
      [
        "a size that is not whole",
        ["state", 0, "shape"],
        [1.5],
        "state[0].shape[0]: expected int, found 1.5",
      ],
      [
        "a shape too large",
        ["state", 0, "shape"],
        [2 ** 16, 2 ** 16],
        "state[0].shape: expected at most 2^31 elements",
      ],
      [
        "a rank too large",
        ["state", 0, "shape"],
        Array(9).fill(1),
        "state[0].shape: expected at most 8 entries",
      ],
      ["a name too long", ["state", 0, "name"], "x".repeat(201), "state[0].name: expected a printable name"],
      ["an unprintable name", ["state", 0, "name"], "a\u001b", "state[0].name: expected a printable name"],
      ["__proto__ as a name", ["state", 0, "name"], "__proto__", "state[0].name: expected a printable name"],
      ["one state name twice", ["state", 1, "name"], "w", "state[1].name: expected a new name of an input"],
      [
        "a state named as a scalar",
        ["state", 0, "name"],
        "lr",
        "state[0].name: expected a new name of an input",
      ],
      [
        "a state named images",
        ["state", 0, "name"],
        "images",
        "state[0].name: expected a new name of an input",
      ],
      ["one output twice", ["state", 1, "next"], "w'", "state[1].next: expected a new name of an output"],
      [
        "a metric that is a state's next",
        ["metrics", 0],
        "w'",
        "metrics[0]: expected a new name of an output",
      ],
      [
        "a copy of nothing",
        ["state", 1, "init", "of"],
        "v",
        "state[1].init.of: expected a state tensor with float32",
      ],
      [
        "a copy of another shape",
        ["state", 1],
        { ...ema, shape: [4, 3] },
        "state[1].init.of: expected a state tensor",
      ],
      [
        "a copy of a copy",
        ["state", 0],
        { ...w, init: { kind: "copy", of: "w" } },
        "state[0].init.of: expected",
      ],
    ];
    for (const [what, at, value, message] of changes) {
      it(what, async () => {
        const changed = structuredClone(await writeArtifact(dir, manifest, graphs)) as unknown;
        let part = changed as Record<string | number, unknown>;
        for (const key of at.slice(0, -1)) part = part[key] as Record<string | number, unknown>;
        part[at.at(-1)!] = value;
        await writeFile(path, JSON.stringify(changed));
        expect(await messageOf(readArtifact(dir))).to.include(`${path}: ${message}`);
      });
    }
  });

  it("has a schema for schedules alone", () => {
    expect(scheduleSchema.safeParse({ kind: "constant", value: 1 }).success).to.equal(true);
    expect(scheduleSchema.safeParse({ kind: "constant", value: Number.NaN }).success).to.equal(false);
    expect(
      scheduleSchema.safeParse({ kind: "steps", from: 1, factor: 1, at: [2], warmupEpochs: 0 }).success,
    ).to.equal(false);
  });
});
