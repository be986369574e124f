import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { apart, difference, readTaken, type Taken, writeTaken } from "../../scripts/bench/gpu/compare.ts";
import { type Line, runPart, textOf } from "../../scripts/bench/gpu/part.ts";
import { reportOf } from "../../scripts/bench/gpu/report.ts";
import { keepArchitecture } from "../../scripts/bench/gpu/shrink.ts";
import { temporaryFolder } from "../data/folder.ts";

describe("bench/gpu", () => {
  const folder = temporaryFolder();
  const at = (name: string) => `${folder.path}/${name}`;

  describe("two runs of the same steps", () => {
    const taken = (loss: number, bias: readonly number[]): Taken => {
      const values = new Map([
        ["weight", Float32Array.of(3, -4)],
        ["bias", Float32Array.from(bias)],
      ]);
      return { losses: Float32Array.of(1, loss), gradients: values, weights: values, changes: values };
    };
    const wanted = taken(2, [0.5, 0]);

    it("are apart by their losses, all values together, and the tensor that is farthest off", async () => {
      await writeTaken(at("a.safetensors"), taken(2.5, [0.5, 0.25]));
      const { loss, weights } = difference(await readTaken(at("a.safetensors")), wanted);
      expect(loss).to.equal(0.25);
      expect(weights).to.include({ worst: 0.5, tensor: "bias" });
      expect(weights.whole).to.be.closeTo(0.25 / Math.hypot(3, 4, 0.5), 1e-6);
      expect(difference(wanted, wanted)).to.deep.include({
        loss: 0,
        weights: { whole: 0, worst: 0, tensor: "" },
      });
    });

    it("are not the same where one has no number, or lacks a tensor or a step", () => {
      const { loss, weights } = difference(taken(Number.NaN, [0.5, Number.NaN]), wanted);
      expect([loss, weights.whole, weights.worst]).to.deep.equal([Number.NaN, Number.NaN, Number.NaN]);
      expect(difference({ ...wanted, losses: Float32Array.of(1) }, wanted).loss).to.be.NaN;
      const fewer = { ...wanted, weights: new Map([["weight", Float32Array.of(3, -4)]]) };
      expect(() => difference(fewer, wanted)).to.throw("expected 2 tensors, found 1");
    });

    it("are marked in the report where they are beyond the limits, except with TF32", () => {
      const line = (on: string, loss: number): Line => ({
        kind: "parity",
        method: "simclr",
        on,
        of: "cpu",
        ...difference(taken(loss, [0.5, 0]), wanted),
      });
      const lines = [
        line("cuda", 2),
        line("webgpu", 2.5),
        line("webgpu", Number.NaN),
        line("cuda in tf32", 2.5),
      ];
      const told = lines.map((each) => JSON.parse(textOf(each)) as Line); // by a process to another
      const report = reportOf(told, []);
      expect(report).to.match(/\| cuda \| cpu \| {2}\| 0.0e\+0 \|/);
      expect(report).to.match(/\| webgpu \| cpu \| {2}\| \*\*2.5e-1\*\* \|/);
      expect(report).to.match(/\| webgpu \| cpu \| {2}\| \*\*NaN\*\* \|/);
      expect(report).to.match(/\| cuda in tf32 \| cpu \| {2}\| 2.5e-1 \|/);
      expect(report).to.include("4 compared, 2 beyond the limits or failed.");
    });
  });

  it("sets two runs' losses apart step by step", () => {
    const other = Float32Array.of(1, 2, 3, 5, 5, 6, 7, 8);
    expect(apart(Float32Array.of(2, 2, 3, 4, 5, 6, 7, 9), other)).to.deep.equal({ mean: 0.375, last: 0.5 });
  });

  it("reports speed beside the peer's in the same precision, with aims", () => {
    const line = (side: string, precision: string, imagesPerSecond: number, more: object = {}): Line => ({
      ...{ kind: "speed", side, method: "simclr", encoder: "resnet18", size: 32, batch: 256 },
      ...{ precision, ms: 10, imagesPerSecond, memoryMb: 1000, ...more },
    });
    const report = reportOf(
      [
        line("ours", "tf32", 950, { start: 4.5 }),
        line("ours", "tf32", 500, { start: 3, way: "unfused" }),
        line("ours", "bf16", 1500),
        line("torch", "tf32", 1000, { memoryMb: 500 }),
        line("torch", "bf16", 2000),
      ],
      [],
    );
    const row = (text: string) => report.split("\n").find((each) => each.startsWith(`| simclr, ${text} |`));
    const own = "resnet18, 32 px, 256,";
    expect(row(`${own} tf32`)).to.match(
      /\*\*4\.5\*\* \(<= 4\) .*0\.95 \(>= 0\.95\) \| \*\*2\.00\*\* \(<= 1\.2\)/,
    );
    expect(row(`${own} tf32, unfused`)).to.match(/ 3\.0 \(<= 4\) .*\*\*0\.50\*\* \(>= 0\.95\)/);
    expect(row(`${own} bf16`)).to.match(/ 2000 .* 0\.75 \(>= 0\.75\) \| 1\.00 \(<= 1\.2\)/);
  });

  describe("a part", () => {
    const shell = (script: string, limit: number, lines: Line[] = []) =>
      runPart(
        { file: "sh", args: ["-c", script] },
        { limit, log: at("log"), line: (line) => lines.push(line) },
      );

    it("tells its lines, and how it failed", async () => {
      const lines: Line[] = [];
      const { outcome } = await shell(
        `echo '{"kind":"x","y":1}'; echo {; echo "Error: no GPU" >&2; echo "  at Error (x.js:1)" >&2; exit 3`,
        60,
        lines,
      );
      expect(lines).to.deep.equal([{ kind: "x", y: 1 }]);
      expect(outcome).to.equal("ended with 3: Error: no GPU");
      expect((await shell("exit 0", 60)).outcome).to.equal("ok");
    });

    it("passes the product's warnings on to the report, each once", async () => {
      const warning = "warning: steps are not fused and so are slower: no NVRTC";
      const ended = await shell(`for i in 1 2; do echo "${warning}" >&2; done; echo other >&2`, 60);
      expect(ended.notes).to.deep.equal([warning]);
      expect(reportOf([], [{ name: "whole", limit: 60, ...ended }])).to.include(`- whole: ${warning}`);
    });

    it("is ended at its limit, with what it started", async () => {
      const { outcome } = await shell(`(sleep 0.6; echo > "${at("late")}") & wait`, 0.2);
      expect(outcome).to.equal("stopped at its limit of 0.2 s");
      await sleep(800);
      expect(existsSync(at("late"))).to.equal(false);
    });
  });

  describe("a library with CUDA code", () => {
    /** An entry of a fatbin: its header, then the code, of 32 bytes. */
    const entry = (architecture: number, kernel: string) => {
      const header = Buffer.alloc(64);
      header.writeUInt32LE(header.length, 4);
      header.writeBigUInt64LE(32n, 8);
      header.writeUInt32LE(architecture, 28);
      return Buffer.concat([header, Buffer.from(`.text.${kernel}`.padEnd(32, "x"))]);
    };
    const container = (...entries: readonly Buffer[]) => {
      const [header, body] = [Buffer.alloc(16), Buffer.concat(entries)];
      header.writeUInt32LE(0xba55ed50, 0);
      header.writeUInt16LE(header.length, 6);
      header.writeBigUInt64LE(BigInt(body.length), 8);
      return Buffer.concat([header, body]);
    };

    /** An ELF file with the sections given, the last of which is that of their names. */
    function library(fatbin: Buffer): Buffer {
      const names = Buffer.from("\0.nv_fatbin\0.shstrtab\0");
      const header = Buffer.alloc(64);
      header.writeUInt32BE(0x7f454c46, 0);
      header.writeBigUInt64LE(BigInt(64 + fatbin.length + names.length), 40);
      header.writeUInt16LE(64, 58);
      header.writeUInt16LE(3, 60);
      header.writeUInt16LE(2, 62);
      const section = (name: number, start: number, bytes: number) => {
        const found = Buffer.alloc(64);
        found.writeUInt32LE(name, 0);
        found.writeBigUInt64LE(BigInt(start), 24);
        found.writeBigUInt64LE(BigInt(bytes), 32);
        return found;
      };
      const sections = [
        section(0, 0, 0),
        section(1, 64, fatbin.length),
        section(12, 64 + fatbin.length, names.length),
      ];
      return Buffer.concat([header, fatbin, names, ...sections]);
    }

    it("keeps what one architecture runs, in its place", () => {
      const fatbin = Buffer.concat([
        container(entry(80, "add"), entry(90, "add")),
        Buffer.alloc(8),
        container(entry(90, "flash_attention"), entry(90, "mul")),
      ]);
      const whole = library(fatbin);
      const found = Buffer.from(whole);
      expect(keepArchitecture(found, 90, /flash/)).to.deep.equal({ before: 128, after: 64 });
      const gone = [whole.indexOf(".text.add"), whole.indexOf(".text.flash")];
      const expected = Buffer.from(whole);
      for (const at of gone) expected.fill(0, at, at + 32);
      expect(found.equals(expected)).to.equal(true);
      expect(() => keepArchitecture(library(fatbin), 75)).to.throw("expected code for sm_75, found none");
    });
  });
});
