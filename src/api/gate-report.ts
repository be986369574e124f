/** A gate's checks for people and for machines: lines, Markdown, JUnit's XML. Names of files and classes may hold anything. */
import { type AccuracyCheck, type Check, EXAMPLES, type Power, powerOf } from "../probe/gate.ts";
import { LEVEL } from "../probe/mcnemar.ts";
import type { Spread, TestImage } from "../probe/result.ts";
import type { Measured } from "./baseline.ts";
import type { Gate } from "./gate.ts";
import { nameOf } from "./gate.ts";
import { hasTop5, type ProbeResult } from "./probe.ts";

/** A table, and what there is to say about it. */
export function gateLines(gate: Gate): readonly string[] {
  return [...aligned(rowsOf(gate)), ...notesOf(gate)];
}

/** Lines of a table, its first column to the left and the others to the right. */
function aligned(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
}

/** A table of how far trainings with other seeds lie apart; nothing where there were none. */
export function repeatLines(results: readonly ProbeResult[]): readonly string[] {
  const [seeds] = results.flatMap(({ repeats }) => (repeats ? [repeats.seeds] : []));
  if (!seeds) return [];
  const rows = results.flatMap((result) => {
    const { repeats, layers = [] } = result;
    const name = nameOf(result, results);
    const layered = layers.map((layer): [string, Spread] => [`  ${layer.name}`, layer.repeats!]);
    const top5: [string, Spread][] = hasTop5(result) ? [[name.replace("top-1", "top-5"), repeats!.top5]] : [];
    return [[name, repeats!.top1] as const, ...top5, ...layered];
  });
  const percent = (value: number) => `${value.toFixed(2)} %`;
  return aligned([
    [`${seeds.length} trainings, seeds ${seeds[0]} to ${seeds.at(-1)}`, "mean", "std", "least", "greatest"],
    ...rows.map(([name, { mean, std, least, greatest }]) => [
      ...[name, percent(mean), std.toFixed(2), percent(least), percent(greatest)],
    ]),
  ]);
}

const HEAD = ["", "baseline", "now", "limit", "lost", "won", "p", ""];

function rowsOf({ accuracies, measures, costs }: Gate): readonly (readonly string[])[] {
  return [
    HEAD,
    ...accuracies.map((check) => {
      const { paired } = check;
      const pairs = paired ? [`${paired.lost}`, `${paired.won}`, shownP(paired.p)] : ["", "", ""];
      return [...figuresOf(check), ...pairs, check.verdict];
    }),
    ...[...measures, ...costs].map((check) => [
      ...figuresOf(check),
      "",
      "",
      "",
      check.limit === undefined ? "" : check.verdict,
    ]),
  ];
}

const figuresOf = (check: Check): readonly string[] => {
  const { name, baseline, now, limit } = check;
  const bound = limit === undefined ? "" : `${check.better === "higher" ? "≥" : "≤"} ${shown(limit, check)}`;
  return [name, shown(baseline, check), shown(now, check), bound];
};

function shown(value: number, { unit }: Pick<Check, "unit">): string {
  if (unit === "") return value.toPrecision(4);
  if (unit === "%") return `${value.toFixed(2)} %`;
  return unit === "s" ? `${(1000 * value).toPrecision(3)} ms` : `${(value / 1e6).toPrecision(3)} MB`;
}

const shownP = (p: number): string => (p < 0.001 ? "< 0.001" : p.toPrecision(2));

function notesOf({ accuracies, measures, costs, sameEncoder, sameProcessor }: Gate): readonly string[] {
  return [
    ...accuracies.map(
      (check) =>
        `${check.name}: ${[...chanceOf(check), powerOfCheck(check), ...pretrainingOf(check)].join(" ")}`,
    ),
    ...measures.flatMap(({ name, note }) => (note ? [`${name}: ${note}.`] : [])),
    ...costs.flatMap(({ name, reason }) => (reason ? [`${name}: not compared: ${reason}.`] : [])),
    ...(sameEncoder ? ["The encoder is the baseline's, byte for byte."] : []),
    ...(sameProcessor === undefined ? [] : [sameProcessor ? RERUN : ELSEWHERE]),
  ];
}

const RERUN = "A rerun of the same encoder on this processor gives the same figures: it never alarms.";
const ELSEWHERE =
  "The baseline was made on another processor, whose rounding differs: single images may change sides or neighbours (docs/ci.md).";

/** Whether a difference may come from the choice of test images. */
function chanceOf({ paired }: AccuracyCheck): readonly string[] {
  if (!paired || paired.lost + paired.won === 0) return [];
  const { lost, won, p } = paired;
  const verdict =
    p < LEVEL
      ? "more than the choice of test images explains"
      : "no more than the choice of test images may explain";
  const probability = p < 0.001 ? "p < 0.001" : `p = ${shownP(p)}`;
  return [`${lost} images lost, ${won} won, ${verdict} (exact McNemar test, ${probability}).`];
}

function powerOfCheck({ baseline, limit, power }: AccuracyCheck): string {
  const isClose = power.leastDrop !== undefined && baseline - limit < power.leastDrop;
  return `${powerText(power)}${isClose ? " The limit is closer: a fall between the two may be chance." : ""}`;
}

/** How the difference compares with that between trainings. */
function pretrainingOf({ pretraining = {} }: AccuracyCheck): readonly string[] {
  const { before, now, fall } = pretraining;
  const spread = ({ values, mean, std, least, greatest }: Spread, whose: string) =>
    `${values.length} trainings of ${whose} lie from ${least.toFixed(2)} to ${greatest.toFixed(2)} %, mean ${mean.toFixed(2)} %, standard deviation ${std.toFixed(2)}`;
  const away = !fall // unknown, or none
    ? ""
    : `: the run at hand is ${Math.abs(fall).toFixed(1)} standard deviations ${fall < 0 ? "above" : "below"} the baseline`;
  return [
    ...(before ? [`${spread(before, "the baseline")}${away}.`] : []),
    ...(now ? [`${spread(now, "this configuration")}.`] : []),
  ];
}

/** What a baseline's test images will be able to show. */
export const powerLines = ({ results }: Measured): readonly string[] =>
  results.map((result) => `${nameOf(result, results)}: ${powerText(powerOf(result.images))}`);

function powerText({ images, changed, assumed, leastDrop }: Power): string {
  if (leastDrop === undefined) return `${images} test images are too few to show any drop.`;
  const share = `${assumed ? "assuming independent mistakes: " : ""}${changed.toPrecision(2)} % right with one encoder alone`;
  return `${images} test images show drops from ${leastDrop.toFixed(1)} points on (exact McNemar test at 5 %, power 80 %, ${share}).`;
}

/** A job summary or a comment: the table, the notes, and the images that were lost. */
export function gateMarkdown(gate: Gate): string {
  const [head, ...rows] = rowsOf(gate).map((row) => `| ${row.join(" | ")} |`);
  const parts = [
    `### Probes: ${gate.passed ? "passed" : "failed"}`,
    [head, `|---|${"---:|".repeat(HEAD.length - 1)}`, ...rows].join("\n"),
    notesOf(gate)
      .map((note) => `- ${markdownText(note)}`)
      .join("\n"),
    ...gate.accuracies.flatMap(({ name, lost, paired }) =>
      lost.length === 0
        ? []
        : [
            `${lostHead(name, lost, paired?.lost)}\n`,
            ...lost.map(
              (image) => `- ${code(image.file)}: ${code(image.class)} taken for ${code(image.predicted)}`,
            ),
          ].join("\n"),
    ),
  ];
  return `${parts.filter(Boolean).join("\n\n")}\n`;
}

const lostHead = (name: string, lost: readonly TestImage[], all = lost.length): string =>
  `${name}, lost images${all > EXAMPLES ? ` (${lost.length} of ${all})` : ""}:`;

/** JUnit's XML, as GitHub's actions, GitLab and Jenkins read it: a case for each check that has a limit. */
export function gateJunit({ accuracies, measures, costs }: Gate): string {
  const cases = [...accuracies, ...[...measures, ...costs].filter(({ limit }) => limit !== undefined)];
  const count = (verdict: Check["verdict"]) => cases.filter((check) => check.verdict === verdict).length;
  const counts = `tests="${cases.length}" failures="${count("failed")}" errors="0" skipped="${count("skipped")}" time="0"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="ort-pretrain" ${counts}>`,
    `  <testsuite name="ort-pretrain probe" ${counts}>`,
    ...cases.map((check) => `    ${caseOf(check)}`),
    "  </testsuite>",
    "</testsuites>",
    "",
  ].join("\n");
}

function caseOf(check: Check | AccuracyCheck): string {
  const { name, baseline, now, verdict, reason = "" } = check;
  const opening = `<testcase classname="ort-pretrain.probe" name="${xml(name)}" time="0">`;
  const message = `${name}: ${shown(now, check)}, baseline ${shown(baseline, check)}, limit ${shown(check.limit!, check)}`;
  const details =
    "power" in check
      ? [...chanceOf(check), powerText(check.power), ...pretrainingOf(check), ...lostLines(check)]
      : [check.note ?? ""];
  const text = details.map(xml).join("\n");
  if (verdict === "skipped") return `${opening}<skipped message="${xml(reason)}"/></testcase>`;
  if (verdict === "passed") return `${opening}<system-out>${xml(message)}\n${text}</system-out></testcase>`;
  return `${opening}<failure type="regression" message="${xml(message)}">${text}</failure></testcase>`;
}

const lostLines = ({ name, lost, paired }: AccuracyCheck): readonly string[] =>
  lost.length === 0
    ? []
    : [
        lostHead(name, lost, paired?.lost),
        ...lost.map((image) => `${image.file}: ${image.class} taken for ${image.predicted}`),
      ];

/** Escaped for text and attributes; what XML 1.0 has no way to write becomes U+FFFD. */
export function xml(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "\uFFFD")
    .replace(/[&<>"'\t\n\r]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Every character that Markdown or HTML might take for their own becomes a reference, which they show as it is. */
const markdownText = (text: string): string =>
  text
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}]/gu, "\uFFFD")
    .replace(/[^\p{L}\p{M}\p{N}\uFFFD (),.:%/=≥≤-]/gu, (character) => `&#${character.codePointAt(0)};`);

/** A name from outside, as code: no mention and no link. */
const code = (text: string): string =>
  `<code>${markdownText(text).replace(/[.:()]/g, (character) => `&#${character.charCodeAt(0)};`)}</code>`;
