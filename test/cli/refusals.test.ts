import { cp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { temporaryFolder } from "../data/folder.ts";
import { labelled, picture, pictures, tinyArtifact } from "../support/pictures.ts";
import { type Ended, errorsIn, refusal, run, runInTurn } from "../support/program.ts";

describe("cli: what cannot be done is refused in one line", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const train = (given: Record<string, string>) => {
    const flags = {
      data: at("photos"),
      out: at("out"),
      graph: at("graph"),
      batch: "4",
      steps: "2",
      threads: "1",
      ...given,
    };
    return ["train", ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])];
  };
  /** By method and encoder, in place of an artifact. */
  const named = (...more: string[]) => [
    "train",
    "--data",
    at("photos"),
    "--out",
    at("out"),
    "--encoder",
    "resnet20",
    "--image-size",
    "16",
    ...more,
  ];
  const probe = (encoder: string, train = "labelled", test = train) => [
    "probe",
    at(encoder),
    "--kind",
    "knn",
    "--train",
    at(train),
    "--test",
    at(test),
  ];

  const set = { images: 4, classes: 2, names: "0".repeat(64) };
  /** A baseline. */
  const kept = {
    ...{ format: 1, data: { train: set, test: set }, tested: set.names },
    settings: { limit: null, labels: 1, seed: 0, range: null },
    probes: [{ kind: "knn", k: 1, temperature: 0.1, top1: 50, train: 4, test: 4, right: "Aw==" }],
  };

  /** Each command line, a pattern of what it says. */
  const refused: Record<string, [args: () => string[], says: RegExp]> = {
    "an unknown command": [() => ["trian"], /unknown command 'trian' \(Did you mean train\?\)/],
    "an unknown command of graphs": [() => ["graphs", "lst"], /\(Did you mean list\?\)/],
    "an unknown option": [() => [...train({}), "--bacth", "4"], /'--bacth' \(Did you mean --batch\?\)/],
    "an unknown method": [() => named("--method", "simclrr"), /method "simclrr": did you mean "simclr"\?/],
    "an unknown encoder": [() => named("--encoder", "resnet21"), /encoder "resnet21": did you mean "resnet/],
    "an unknown optimizer": [() => named("--optimizer", "adam"), /optimizer "adam": did you mean "adamw"\?/],
    "an unknown provider": [() => train({ provider: "cudda" }), /provider "cudda": did you mean "cuda"\?/],
    "a provider that does not work here": [
      () => train({ provider: "cuda" }),
      /step\.onnx: expected a graph that runs on cuda, found: .*; "ort-pretrain doctor" tells what/,
    ],
    "bytes that a provider cannot repeat": [
      () => [...train({ provider: "webgpu" }), "--deterministic"],
      /--deterministic: expected it with --provider cuda or cpu, found --provider webgpu/,
    ],
    "TF32 where there is none": [
      () => [...train({}), "--no-tf32"],
      /--tf32: expected it with --provider cuda, found --provider cpu/,
    ],
    "an unknown precision": [
      () => train({ provider: "cuda", precision: "half" }),
      /unknown precision "half" \(known: tf32, fp32, bf16, fp16\)/,
    ],
    "half precision where there is none": [
      () => [...train({}), "--precision", "bf16"],
      /--precision bf16: expected it with --provider cuda, found --provider cpu/,
    ],
    "an unknown setting": [
      () => named("--set", "temprature=1"),
      /"temprature": did you mean "temperature"\?/,
    ],
    "an unknown fault of images": [
      () => ["data", "check", at("photos"), "--drop", "near,flta"],
      /fault "flta": did you mean "flat"\?/,
    ],
    "a likeness above 1": [
      () => ["data", "check", at("photos"), "--near", "95"],
      /'--near <f>' argument '95' is invalid. Expected 0 to 1/,
    ],
    "a list of images that are gone": [
      () => train({ data: at("gone.txt") }),
      /gone\.txt: expected paths of images, .* found no file at 1 of 1, the first .*none\.png \(line 1\)/,
    ],
    "an unknown kind of probe": [
      () => [...probe("encoder.onnx"), "--kind", "knnn"],
      /"knnn": did you mean "knn"\?/,
    ],
    "kNN's options for another kind of probe": [
      () => [...probe("encoder.onnx"), "--kind", "linear", "--k", "20"],
      /--k: expected it with --kind knn, found --kind linear/,
    ],
    "seeds of what is not trained": [
      () => [...probe("encoder.onnx"), "--seeds", "3"],
      /--seeds: expected it with --kind linear, found --kind knn/,
    ],
    "labels of what needs none": [
      () => ["probe", at("encoder.onnx"), "--kind", "rank", "--data", at("photos"), "--labels", "10%"],
      /--labels: expected it with --kind knn or linear or layers, found --kind rank/,
    ],
    "rank beside accuracies": [
      () => [...probe("encoder.onnx"), "--kind", "rank,knn"],
      /--kind: expected rank by itself, found rank,knn/,
    ],
    "labels without a percent sign": [
      () => [...probe("encoder.onnx"), "--labels", "10"],
      /--labels .* '10' is invalid.*percentage such as 10%/,
    ],
    "a confusion of several probes": [
      () => [...probe("encoder.onnx"), "--k", "1,5", "--confusion", at("c.csv")],
      /--confusion: expected one kind of probe with one k and temperature, found 2/,
    ],
    "a baseline both to write and to be held to": [
      () => [...probe("encoder.onnx"), "--baseline", at("linear.json"), "--write-baseline", at("b.json")],
      /expected --baseline or --write-baseline, found both/,
    ],
    "a limit of overlap without a baseline": [
      () => ["probe", at("encoder.onnx"), "--kind", "rank", "--data", at("photos"), "--least-overlap", "0.5"],
      /--least-overlap: expected it with --baseline, found no --baseline/,
    ],
    "a limit of overlap in percent": [
      () => ["probe", at("encoder.onnx"), "--kind", "rank", "--data", at("photos"), "--least-overlap", "50"],
      /--least-overlap .* '50' is invalid.*0 to 1/,
    ],
    "a report without a baseline": [
      () => [...probe("encoder.onnx"), "--junit", at("j.xml")],
      /--junit: expected it with --baseline, found no --baseline/,
    ],
    "an unknown cost": [
      () => [...probe("encoder.onnx"), "--gate", "latencyy=1.2"],
      /unknown cost "latencyy": did you mean "latency"\?/,
    ],
    "a cost without its ratio": [
      () => [...probe("encoder.onnx"), "--gate", "latency"],
      /--gate .* 'latency' is invalid.*such as latency=1\.2/,
    ],
    "a probe of nothing": [
      () => ["probe", "--kind", "knn"],
      /expected an encoder and labelled folders to train and test on, or features, found no encoder/,
    ],
    "features to test on that are missing": [
      () => ["probe", "--kind", "knn", "--features", "train.npy"],
      /--features: expected two files, to train and to test on, found 1/,
    ],
    "a batch of 0": [() => train({ batch: "0" }), /--batch .* '0' is invalid/],
    "a rate that is no number": [() => train({ lr: "x" }), /--lr .* 'x' is invalid/],
    "steps below 0": [() => train({ steps: "-1" }), /--steps .* '-1' is invalid/],
    "threads beyond reason": [() => train({ threads: "100000" }), /--threads .* '100000' is invalid/],
    "a range from white to black": [
      () => train({ range: "5,1" }),
      /--range .* '5,1' is invalid.*lower one first/,
    ],
    "a range to resume with another": [
      () => ["train", "--resume", "--out", at("run"), "--range", "-1,1"],
      /--range: expected none, as the run began, found \[-1,1\]/,
    ],
    "a setting out of range": [() => named("--set", "temperature=-1"), /setting "temperature": .*>0/],
    "a setting without a value": [() => named("--set", "temperature"), /Expected key=value/],
    "no data": [() => ["train", "--out", at("out")], /expected --data DIR/],
    "no out": [() => ["train", "--data", at("photos")], /'--out <dir>' not specified/],

    "a missing folder": [
      () => train({ data: at("nothing") }),
      /nothing: expected a folder of images, found nothing/,
    ],
    "a folder without images": [
      () => train({ data: at("graph") }),
      /graph: expected images \(jpg.*none in it/,
    ],
    "a file as folder": [
      () => train({ data: at("text/a.jpg") }),
      /expected a folder of images, found a file/,
    ],
    "nothing but text named .jpg": [
      () => train({ data: at("text"), batch: "2" }),
      /expected an image that can be decoded, found none/,
    ],
    "a batch larger than the folder": [
      () => train({ batch: "100" }),
      /expected at most the number of images \(6\)/,
    ],
    "a batch that leaves nothing to contrast": [
      () => train({ batch: "1" }),
      /batch for simclr-resnet20-16: expected 2 or more, found 1; it tells the images of a batch apart/,
    ],
    "a last part that is too small for batch statistics": [
      () => named("--method", "byol", "--batch", "5", "--micro-batch", "4"),
      /--micro-batch for byol.*: expected parts of 2 images or more, found one of 1 \(5 images, 4 at a time\)/,
    ],
    "a kNN folder of one class": [
      () => train({ knn: at("one") }),
      /one folder per class .* found one class "a"/,
    ],

    "an out that is a file": [
      () => train({ out: at("text/a.jpg") }),
      /a\.jpg: expected a folder, found a file/,
    ],
    "an out below a file": [
      () => train({ out: at("text/a.jpg/run") }),
      /run: expected a folder, found a file/,
    ],
    "an out with a file of a run's name": [
      () => train({ out: at("metrics") }),
      /metrics: expected nothing that a run would write over, found "metrics\.jsonl"; move it away or/,
    ],
    "an out with another's config.json": [
      () => train({ out: at("other-config") }),
      /other-config: expected nothing that a run would write over, found "config\.json"; move it away or/,
    ],
    "an out with another's graph": [
      () => train({ out: at("other-graph") }),
      /other-graph: expected nothing that an artifact would write over, found "step\.onnx"/,
    ],
    "a graph built into a run": [
      () => ["graphs", "build", "--method", "simclr", "--encoder", "resnet20", "--out", at("run")],
      /run: expected nothing that an artifact would write over, found a run/,
    ],
    "an encoder exported into another run": [
      () => ["export", at("run"), "--out", at("second")],
      /second: expected a folder without a run, found one/,
    ],
    "an encoder exported over another's": [
      () => ["export", at("run"), "--out", at("other-encoder")],
      /encoder\.onnx: expected an encoder of ours or none, found another file; move it away/,
    ],
    "a graph and what it is not": [
      () => [...train({}), "--method", "moco"],
      /--method: expected "simclr", as .*graph was built, found "moco"; leave it out/,
    ],
    "a whole graph, a few images at a time": [
      () => train({ "micro-batch": "2" }),
      /--micro-batch: expected an artifact whose step is in parts, found .*graph/,
    ],
    "how often kNN, without its folder": [
      () => train({ "knn-every": "2" }),
      /--knn-every: expected --knn DIR with it, found none/,
    ],
    "a run that begins longer than it begins": [
      () => train({ "extend-steps": "2" }),
      /--extend-steps: expected it with --resume, found a new run/,
    ],
    "to go on without a run": [() => ["train", "--resume", "--out", at("photos")], /expected a run folder/],

    "no graph": [
      () => train({ graph: at("photos") }),
      /manifest\.json: expected a manifest, found no such file/,
    ],
    "a graph with a flipped byte": [
      () => train({ graph: at("flipped") }),
      /step\.onnx: expected the manifest's sha256/,
    ],
    "a graph cut off": [
      () => train({ graph: at("cut") }),
      /encode\.onnx: expected the manifest's \d+ bytes, found/,
    ],
    "a manifest that is no JSON": [() => train({ graph: at("no-json") }), /manifest\.json: expected JSON/],
    "to inspect what is no artifact": [() => ["graphs", "inspect", at("photos")], /expected a manifest/],

    "a missing encoder": [
      () => probe("none.onnx"),
      /none\.onnx: expected an encoder\.onnx, found no such file/,
    ],
    "an encoder that is no ONNX": [
      () => probe("text/a.jpg"),
      /a\.jpg: expected an encoder written by ort-pretrain/,
    ],
    "another ONNX with inputs for more than images": [
      () => probe("graph/encode.onnx"),
      /encode\.onnx: expected one input, for images, .* found \d+: "images" uint8 \[n, h, w, 3\], "encoder\./,
    ],
    "a normalisation that has no name": [
      () => [...probe("encoder.onnx"), "--mean", "imagnet"],
      /unknown mean "imagnet": did you mean "imagenet"\?/,
    ],
    "a normalisation of two numbers": [
      () => [...probe("encoder.onnx"), "--std", "1,2"],
      /--std .* '1,2' is invalid.*three numbers/,
    ],
    "an unknown pooling": [
      () => [...probe("encoder.onnx"), "--pool", "max"],
      /unknown pool "max".* \(known: cls, mean\)/,
    ],
    "what is said of a third-party model for one of ours": [
      () => [...probe("encoder.onnx"), "--size", "16"],
      /--size: expected it with a third-party model, found .*encoder\.onnx, which says it itself/,
    ],
    "layers of an encoder without them": [
      () => [...probe("encoder.onnx"), "--kind", "layers"],
      /encoder\.onnx: expected an encoder with its stages, found one without; export it with --stages/,
    ],
    "an encoder cut off": [() => probe("cut.onnx"), /cut\.onnx: expected/],
    "one class": [() => probe("encoder.onnx", "one"), /expected one folder per class .* found one class "a"/],
    "sets in place of classes": [
      () => probe("encoder.onnx", "sets"),
      /sets: expected one folder per class, found sets .*; did you mean .*sets\/test or .*sets\/train\?/,
    ],
    "test classes that train lacks": [
      () => probe("encoder.onnx", "labelled", "others"),
      /class "x", which the training set lacks/,
    ],

    "to export what is no run": [() => ["export", at("photos"), "--out", at("out")], /expected a run folder/],
    "features that are no .npy": [
      () => ["embed", at("encoder.onnx"), "--data", at("photos"), "--out", at("f")],
      /--out: expected .* \.npy/,
    ],
    "features of another ending than their format": [
      () => [
        "embed",
        at("encoder.onnx"),
        "--data",
        at("photos"),
        "--out",
        at("f.npy"),
        "--format",
        "parquet",
      ],
      /--out: expected a file that ends in \.parquet, found .*f\.npy/,
    ],
    "features into nowhere": [
      () => ["embed", at("encoder.onnx"), "--data", at("photos"), "--out", at("no/f.npy")],
      /no: expected a folder to write to/,
    ],
    "features whose paths would go over another file": [
      () => ["embed", at("encoder.onnx"), "--data", at("photos"), "--out", at("features.npy")],
      /features\.json: expected a list of paths or no file, found another file/,
    ],
    "features named as a folder is": [
      () => ["embed", at("encoder.onnx"), "--data", at("photos"), "--out", at("folder.npy")],
      /folder\.npy: expected a file or none, found something else/,
    ],
    "a baseline that is missing": [
      () => [...probe("encoder.onnx"), "--baseline", at("none.json")],
      /none\.json: expected a baseline, found no such file/,
    ],
    "a baseline of another kind": [
      () => [...probe("encoder.onnx"), "--baseline", at("linear.json")],
      /linear\.json: expected a baseline of kind knn/,
    ],
    "a baseline of other settings": [
      () => [...probe("encoder.onnx"), "--k", "2", "--baseline", at("knn.json")],
      /knn\.json: expected --k 1, as its probes had, found --k 2; give the same/,
    ],
    "a baseline into nowhere": [
      () => [...probe("encoder.onnx"), "--write-baseline", at("no/b.json")],
      /no: expected a folder to write to, found none/,
    ],
  };
  let ended: readonly Ended[];

  before(async () => {
    process.env.CUDA_VISIBLE_DEVICES = ""; // no GPU, whatever the machine has
    await tinyArtifact(at("graph"));
    await pictures(at("photos"), 6);
    await labelled(at("labelled"), ["a", "b"], 2);
    await labelled(at("others"), ["a", "x"], 1);
    await labelled(at("one"), ["a"], 2);
    await labelled(at("sets/train"), ["a", "b"], 1);
    await labelled(at("sets/test"), ["a", "b"], 1);
    await folder.write("text/a.jpg", "no image");
    await folder.write("metrics/metrics.jsonl", "");
    await folder.write("other-config/config.json", "{}");
    await folder.write("other-graph/step.onnx", "another's");
    await folder.write("other-encoder/encoder.onnx", "another's");
    await folder.write("folder.npy/a", "");
    await folder.write("features.json", '{"mine": 1}');
    await folder.write("linear.json", '{"kind":"linear","top1":50}');
    await folder.write("knn.json", JSON.stringify(kept));
    await folder.write("text/b.jpg", "no image");
    await folder.write("gone.txt", "photos/none.png\n");
    const copy = async (name: string, file: string, changed: (bytes: Buffer) => Uint8Array) => {
      await cp(at("graph"), at(name), { recursive: true });
      await folder.write(`${name}/${file}`, changed(await readFile(at(`graph/${file}`))));
    };
    await copy("flipped", "step.onnx", (bytes) => bytes.map((byte, i) => (i === 5000 ? byte ^ 1 : byte)));
    await copy("cut", "encode.onnx", (bytes) => bytes.subarray(0, 1000));
    await copy("no-json", "manifest.json", (bytes) => bytes.subarray(1));
    expect((await run(train({ out: at("run") }))).code).to.equal(0);
    await cp(at("run"), at("second"), { recursive: true });
    const encoder = await readFile(at("run/encoder.onnx"));
    await folder.write("encoder.onnx", encoder);
    await folder.write("cut.onnx", encoder.subarray(0, encoder.length - 5000));

    ended = await runInTurn(Object.values(refused).map(([args], i) => own(args(), i)));
  });
  /** Each with an --out of its own. */
  const own = (args: string[], i: number) => args.map((arg) => (arg === at("out") ? at(`out${i}`) : arg));

  for (const [i, [name, [, says]]] of Object.entries(refused).entries()) {
    it(name, async () => {
      expect(refusal(ended[i]!)).to.match(says);
      expect(ended[i]!.stderr, "images were embedded first").not.to.contain("features of ");
      const left = await readdir(at(`out${i}`)).catch(() => []);
      // Images are decoded as they are needed, after the run has begun.
      if (name !== "nothing but text named .jpg")
        expect(left, "a run was begun").not.to.include("config.json");
    });
  }

  it("and a run that is there already, which stays as it is", async () => {
    const files = ["config.json", "metrics.jsonl", "encoder.onnx", "checkpoints/step-00000002.safetensors"];
    const read = () => Promise.all(files.map((file) => readFile(at(`run/${file}`))));
    const earlier = await read();
    expect(refusal(await run(train({ out: at("run") })))).to.match(
      /expected a folder without a run, found one/,
    );
    expect(await read()).to.deep.equal(earlier);
  });

  it("but odd images among good ones are none of it", async () => {
    await pictures(at("odd"), 4);
    await picture(at("odd/dot.png"), 0, 1, 1);
    await picture(at("odd/wide.png"), 0, 20_000, 10);
    await folder.write("odd/text.jpg", "no image");
    await picture(at("whole.jpg"), 0, 200, 200);
    const jpeg = await readFile(at("whole.jpg"));
    await folder.write("odd/cut.jpg", jpeg.subarray(0, jpeg.length / 2));
    const result = await run(train({ data: at("odd"), out: at("odd-run"), steps: "4" }));
    expect(result.code, result.stderr).to.equal(0);
    expect(errorsIn(result)).to.deep.equal([]);
    const warned = result.stderr
      .split("\n")
      .filter((line) => line.startsWith("warning: "))
      .sort();
    expect(warned).to.have.length(2);
    expect(warned[0]).to.contain(at("odd/cut.jpg"));
    expect(warned[1]).to.contain(at("odd/text.jpg"));
  });
});
