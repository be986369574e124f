import { expect } from "chai";
import { parse, type TestSuites } from "junit2json";
import type { Gate } from "../../src/api/gate.ts";
import { gateJunit, gateLines, gateMarkdown } from "../../src/api/gate-report.ts";
import { checkAccuracy, checkCost } from "../../src/probe/gate.ts";

/** What files and classes may be called. */
const HOSTILE = [
  `a|b\`c\`*d*_e_[f](http://g.h)<img src=x>&amp;"'.png`,
  "]]></failure><x>\n| # @someone #1\r\n\t- www.example.com",
  "\u0000\u001b[31m\u202egnp\ufffe\ud800.png",
  "--> é 画像 \u{1f600}",
];
/** As they are shown: what a format has no way to write is replaced. */
const IN_XML = HOSTILE.with(2, "\ufffd\ufffd[31m\u202egnp\ufffd\ufffd.png");
const IN_MARKDOWN = IN_XML.with(2, IN_XML[2]!.replace("\u202e", "\ufffd"));
const LINES = /[\n\r\t]/g;

const right = Array.from({ length: 100 }, (_, i) => i < 80);
const accuracy = (lost: number, tolerance: number) =>
  checkAccuracy({
    name: "knn top-1",
    before: { top1: 80, std: 0, right },
    now: {
      top1: 80 - lost,
      images: right.map((hit, i) => ({
        ...{
          file: HOSTILE[i] ?? `${i}.png`,
          class: HOSTILE[i % 4]!,
          predicted: "b",
          right: hit && i >= lost,
        },
      })),
    },
    tolerance,
  });
const gate = (lost: number, tolerance: number): Gate => {
  const latency = checkCost({ name: "latency", unit: "s", baseline: 0.0025, now: 0.003 }, 1.1);
  const checks = {
    accuracies: [accuracy(lost, tolerance)],
    measures: [],
    costs: [
      { ...latency, verdict: "skipped", reason: `measured on ${HOSTILE[1]}` } as const,
      checkCost({ name: "size", unit: "bytes", baseline: 1e6, now: 1.25e6 }, undefined),
    ],
  };
  const passed = checks.accuracies[0]!.verdict === "passed";
  return { ...checks, passed, tolerance, sameEncoder: passed, sameProcessor: passed };
};

describe("api/gate-report", () => {
  it("is one table for people, and what may be chance", () => {
    const lines = gateLines(gate(4, 3));
    expect(lines.slice(0, 4)).to.deep.equal([
      "           baseline      now      limit  lost  won     p",
      "knn top-1   80.00 %  76.00 %  ≥ 77.00 %     4    0  0.13   failed",
      "latency     2.50 ms  3.00 ms  ≤ 2.75 ms                   skipped",
      "size        1.00 MB  1.25 MB",
    ]);
    expect(lines[4]).to.match(
      /^knn top-1: 4 images lost, 0 won, no more than .* p = 0\.13\)\. 100 test images show drops from \d+\.\d points on \(.* power 80 %, 4\.0 % right with one encoder alone\)/,
    );
    expect(lines[4]).to.match(/The limit is closer: a fall between the two may be chance\.$/);
    expect(lines.at(-1)).to.match(/another processor/);
    expect(gateLines(gate(9, 3))[4]).to.match(/9 images lost, 0 won, more than .* p = 0\.0039\)/);
    const same = gateLines(gate(0, 3));
    expect(same[4]).to.match(
      /^knn top-1: 100 test images show .* assuming independent mistakes: 32 % right with one/,
    );
    expect(same.slice(-2).join()).to.match(/byte for byte\.,A rerun .* never alarms/);
  });

  describe("as JUnit's XML", () => {
    const read = async (of: Gate) => (await parse(gateJunit(of))) as TestSuites;
    const cases = async (of: Gate) => (await read(of)).testsuite![0]!.testcase!;

    it("is well-formed and counts its cases, whatever files are called", async () => {
      const root = await read(gate(4, 3));
      const [suite] = root.testsuite!;
      for (const element of [root, suite!])
        expect(element).to.include({ tests: 2, failures: 1, errors: 0, skipped: 1 });
      expect(suite!.testcase!.map(({ name }) => name)).to.deep.equal(["knn top-1", "latency"]);
    });

    it("names what failed and the images that were lost, as far as XML can write them", async () => {
      const [failed, skipped] = await cases(gate(4, 3));
      const [failure] = failed!.failure!;
      expect(failure!.message).to.equal("knn top-1: 76.00 %, baseline 80.00 %, limit 77.00 %");
      for (const name of IN_XML) expect(failure!.inner).to.include(`\n${name}: ${name} taken for b`);
      expect(skipped!.skipped![0]!.message).to.equal(`measured on ${HOSTILE[1]}`);
    });

    it("has a case without a failure for what passed", async () => {
      const [passed] = await cases(gate(0, 3));
      expect(passed).not.to.have.property("failure");
      expect(passed!["system-out"]).to.have.length(1);
    });
  });

  describe("as Markdown", () => {
    const markdown = gateMarkdown(gate(4, 3));

    it("is a table of one width, and says what failed", () => {
      const rows = markdown.split("\n").filter((line) => line.startsWith("|"));
      expect(new Set(rows.map((row) => row.split("|").length))).to.deep.equal(new Set([10]));
      expect(rows).to.have.length(5);
      expect(rows[2]).to.equal("| knn top-1 | 80.00 % | 76.00 % | ≥ 77.00 % | 4 | 0 | 0.13 | failed |");
      expect(markdown).to.match(/^### Probes: failed\n/);
      expect(gateMarkdown(gate(0, 3))).to.match(/^### Probes: passed\n/);
    });

    it("shows names as they are, and lets none act as Markdown or HTML", () => {
      const lines = markdown.split("\n").filter((line) => line.startsWith("- <code>"));
      const codes = lines.map((line) => [...line.matchAll(/<code>(.*?)<\/code>/g)].map(([, text]) => text!));
      expect(lines).to.have.length(4);
      for (const [i, [file]] of codes.entries()) {
        // Letters, digits, blanks, slashes and what needs two of itself or a line of its own to act.
        expect(file!.replace(/&#\d+;/g, "")).to.match(/^[\p{L}\p{M}\p{N}\ufffd /%=,-]*$/u);
        const shown = file!.replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)));
        expect(shown).to.equal(IN_MARKDOWN[i]!.replace(LINES, "\ufffd"));
      }
      expect(markdown.split("</code>")).to.have.length(markdown.split("<code>").length);
      expect(markdown.replace(/<\/?code>/g, "")).not.to.match(/[<>`[\]*@_]/);
    });

    it("names ten images of more", () => {
      const many = gateMarkdown(gate(40, 3));
      expect(many).to.include("knn top-1, lost images (10 of 40):");
      expect(many.match(/^- <code>/gm)).to.have.length(10);
    });
  });
});
