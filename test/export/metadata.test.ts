import { create } from "@bufbuild/protobuf";
import { expect } from "chai";
import { StringStringEntryProtoSchema } from "onnx-buf";
import { UserError } from "../../src/errors.ts";
import {
  type AudioMetadata,
  audioMetadataTexts,
  type EncoderMetadata,
  metadataTexts,
  modalityOf,
  readAudioMetadata,
  readEncoderMetadata,
} from "../../src/export/metadata.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input } from "../../src/graph/tensor.ts";
import { relu } from "../../src/ops/elementwise.ts";
import { randomFor } from "../../src/random.ts";

const metadata: EncoderMetadata = {
  method: "simclr",
  encoder: "resnet18",
  imageSize: 224,
  side: 256,
  features: 512,
  steps: 1200,
  images: 50_000,
  seed: -3,
};
const probes = { knn: { top1: 41.2, k: 200 }, layers: { layers: [{ name: "layer1", top1: 30 }] } };

const texts = metadataTexts({ ...metadata, probes });
const x = input("x", "float32", ["n", 2]);
const model = (entries: Readonly<Record<string, string>>) =>
  encodeModel(buildModel({ features: relu(x) }, { name: "m", metadata: entries }));
const read = (bytes: Uint8Array) => readEncoderMetadata(bytes, "a.onnx");

function messageOf(bytes: Uint8Array): string {
  try {
    read(bytes);
  } catch (error) {
    expect(error).to.be.instanceOf(UserError);
    expect((error as Error).message.length).to.be.below(300);
    return (error as Error).message;
  }
  throw new Error("it was read");
}

const changed = (key: string, value?: string) => {
  const { [`ort-pretrain.${key}`]: _, ...others } = texts;
  return model(value === undefined ? others : { ...others, [`ort-pretrain.${key}`]: value });
};

describe("export/metadata", () => {
  it("gives back what was written, with and without probes, beside other keys", () => {
    expect(read(model({ ...texts, author: "someone" }))).to.deep.equal({ ...metadata, probes });
    expect(read(model(metadataTexts(metadata)))).to.deep.equal(metadata);
    expect(Object.keys(metadataTexts(metadata)).every((key) => key.startsWith("ort-pretrain."))).to.equal(
      true,
    );
    expect(texts["ort-pretrain.format"]).to.equal("1");
  });

  it("refuses to write what it could not read", () => {
    for (const wrong of [
      { side: 0 },
      { steps: 1.5 },
      { features: Number.NaN },
      { method: "" },
      { images: -1 },
    ])
      expect(() => metadataTexts({ ...metadata, ...wrong }), JSON.stringify(wrong)).to.throw("expected");
  });

  it("tells an encoder of ours from other files", () => {
    expect(messageOf(model({}))).to.equal(
      "a.onnx: expected an encoder written by ort-pretrain, found an ONNX model without its metadata",
    );
    for (const bytes of [new Uint8Array(1000).fill(255), new TextEncoder().encode("GIF89a, or so")])
      expect(messageOf(bytes)).to.match(/expected an encoder written by ort-pretrain, found something else/);
    expect(messageOf(new Uint8Array(0))).to.include("without its metadata");
    expect(messageOf(changed("format", "2"))).to.include('expected "1", found "2"; a newer');
  });

  it("names the key that is missing or wrong", () => {
    for (const key of ["method", "encoder", "imageSize", "side", "features", "steps", "images", "seed"])
      expect(messageOf(changed(key))).to.match(
        new RegExp(`^a.onnx: metadata ort-pretrain.${key}: expected a .*, found nothing$`),
      );
    for (const value of ["", " 32", "0x20", "3.5", "1e3", "-1", "0", "8193", "99999999999999999999", "NaN"])
      expect(messageOf(changed("imageSize", value)), value).to.include(
        "expected a whole number from 1 to 8192",
      );
    expect(messageOf(changed("method", "\u001b[31mred")))
      .to.include("printable name")
      .and.not.include("\u001b");
    expect(messageOf(changed("encoder", "e".repeat(5000)))).to.include("...");
    expect(messageOf(changed("steps", "9007199254740993"))).to.include("whole number");
  });

  it("gives back the range of values, if there was one", () => {
    const ranged = { ...metadata, range: [-0.5, 4095] as const };
    expect(read(model(metadataTexts(ranged)))).to.deep.equal(ranged);
    expect(Object.keys(metadataTexts({ ...metadata, range: undefined }))).to.not.include(
      "ort-pretrain.range",
    );
    for (const value of ["", "1", "2,1", "1,2,3", "0,x", "0,Infinity"]) {
      expect(messageOf(changed("range", value)), value).to.equal(
        `a.onnx: metadata ort-pretrain.range: expected two numbers, as low,high, found ${JSON.stringify(value)}`,
      );
    }
  });

  it("gives back the stages, if there are any, with names and bounded sizes", () => {
    const stages = [{ name: "conv1", channels: 16, places: 576 }];
    expect(read(model(metadataTexts({ ...metadata, stages })))).to.deep.equal({ ...metadata, stages });
    for (const wrong of [
      [],
      [{ ...stages[0], channels: 0 }],
      [{ ...stages[0], places: 2 ** 21 }],
      [{ ...stages[0], name: "a\nb" }],
      Array(201).fill(stages[0]),
    ]) {
      expect(() => metadataTexts({ ...metadata, stages: wrong as never }), JSON.stringify(wrong)).to.throw(
        /metadata ort-pretrain\.stages: expected stages with names and sizes, found/,
      );
    }
  });

  it("tells an encoder of audio from one of images, and gives back what it takes", () => {
    const { imageSize: _, side: __, ...common } = metadata;
    const heard: AudioMetadata = { ...common, rate: 16_000, samples: 32_000, embedding: 128 };
    const audio = model(audioMetadataTexts(heard));
    const image = model(texts);
    expect(readAudioMetadata(audio, "b.onnx")).to.deep.equal(heard);
    expect(read(model(metadataTexts({ ...metadata, embedding: 128 }))).embedding).to.equal(128);
    expect([audio, image].map((bytes) => modalityOf(bytes, "b.onnx"))).to.deep.equal(["audio", "image"]);
    expect(messageOf(audio)).to.equal(
      "a.onnx: expected an encoder of images, found one of audio; give the encoder.onnx of its run",
    );
    expect(() => readAudioMetadata(image, "b.onnx")).to.throw(
      "b.onnx: expected an encoder of audio, found one of images",
    );
    expect(() => readAudioMetadata(model({}), "b.onnx")).to.throw("an ONNX model without its metadata");
    expect(() => audioMetadataTexts({ ...heard, samples: 0 })).to.throw(
      "samples: expected a whole number from 1",
    );
  });

  it("bounds the probes", () => {
    for (const value of ["", "[]", "{", '{"knn": 3}', '{"knn": null}', '{"__proto__": {"top1": 1}}'])
      expect(messageOf(changed("probes", value)), value).to.match(
        /^a.onnx: metadata ort-pretrain.probes: expected/,
      );
    const deep = `{"a":{"b":${"[".repeat(1000)}${"]".repeat(1000)}}}`;
    expect(messageOf(changed("probes", deep))).to.include("64 deep");
    expect(messageOf(changed("probes", `{"a":{"b":"${"x".repeat(70_000)}"}}`))).to.include("at most 65536");
    expect(messageOf(changed("probes", "x".repeat(200_000)))).to.include("something else");
  });

  it("refuses a key given twice and endless fields", () => {
    const twice = buildModel({ features: relu(x) }, { name: "m", metadata: texts });
    twice.metadataProps.push(create(StringStringEntryProtoSchema, { key: "ort-pretrain.side", value: "9" }));
    expect(messageOf(encodeModel(twice))).to.include("a damaged one");
    const fields = new Uint8Array(2e7).map((_, i) => (i % 2 ? 1 : 8)); // ir_version = 1, again and again
    expect(messageOf(fields)).to.include("a damaged one");
  });

  it("survives any cut and any changed byte", () => {
    const bytes = model(texts);
    const random = randomFor(1, "bytes");
    const attempt = (damaged: Uint8Array) => {
      try {
        read(damaged);
      } catch (error) {
        expect(error).to.be.instanceOf(UserError);
      }
    };
    for (let length = 0; length < bytes.length; length++) attempt(bytes.slice(0, length));
    for (let i = 0; i < bytes.length; i++) {
      const damaged = bytes.slice();
      damaged[i] = random.integer(256);
      attempt(damaged);
    }
  });
});
