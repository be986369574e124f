/** Tables of what the parts said, as Markdown. */
import type { Difference, Distance } from "./compare.ts";
import type { Ended, Line } from "./part.ts";

/** A part that ran, or did not. */
export interface Outcome extends Ended {
  readonly name: string;
  /** Seconds that it was given. */
  readonly limit: number;
}

/**
 * What one provider may differ from another in float32. An activation near zero that rounding puts on the other side of
 * it changes a gradient by a thousandth; a wrong one differs by its own size.
 */
export const LIMITS = { loss: 1e-5, gradients: 1e-2, changes: 2e-2, weights: 1e-5 } as const;

type ParityLine = Line & Partial<Difference> & { readonly on: string; readonly of: string };

/** False, too, where a value is no number. */
export const isWithin = ({ loss, gradients, changes, weights }: Difference): boolean =>
  loss <= LIMITS.loss &&
  gradients.whole <= LIMITS.gradients &&
  changes.whole <= LIMITS.changes &&
  weights.whole <= LIMITS.weights;

export function reportOf(lines: readonly Line[], outcomes: readonly Outcome[]): string {
  const of = (kind: string) => lines.filter((line) => line.kind === kind);
  const sections = [
    section(
      "Machine",
      table(
        ["what", "value"],
        of("version").map(({ what, value }) => [what, value]),
      ),
    ),
    section("Steps beside another provider's", parity(of("parity") as ParityLine[])),
    section(
      "Killed and resumed",
      table(["provider", "method", "encoder", "result"], of("resume").map(resumed)),
    ),
    section("Speed", speed(of("speed"))),
    section("Views", views(of("views"))),
    section("A hundred steps", losses(of("losses"))),
    section("Whole program", whole(of("epoch"), of("whole"))),
    section(
      "Parts",
      table(
        ["part", "limit, s", "took, s", "outcome"],
        outcomes.map(({ name, limit, seconds, outcome }) => [name, f(limit, 0), f(seconds, 1), outcome]),
      ) + notes(outcomes.map(({ name, notes }) => ({ kind: "part", method: name, notes }))),
    ),
  ];
  return `${sections.filter((text) => text !== "").join("\n\n")}\n`;
}

const section = (title: string, body: string) => (body === "" ? "" : `## ${title}\n\n${body}`);

/** Empty without rows. */
function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  if (rows.length === 0) return "";
  const line = (cells: readonly unknown[]) => `| ${cells.map((cell) => `${cell ?? ""}`).join(" | ")} |`;
  return [line(head), `|${"---|".repeat(head.length)}`, ...rows.map(line)].join("\n");
}

const f = (x: unknown, digits: number) => (typeof x === "number" ? x.toFixed(digits) : "");
const small = (x: number) => (Number.isFinite(x) ? x.toExponential(1) : `${x}`);

function parity(lines: readonly ParityLine[]): string {
  const exact = ({ on }: ParityLine) => !/ in (tf32|bf16|fp16)$/.test(on);
  const marked = (x: number, limit: number, line: ParityLine) =>
    exact(line) && !(x <= limit) ? `**${small(x)}**` : small(x);
  const cells = (line: ParityLine) => {
    if (line.error !== undefined) return [line.method, line.on, line.of, `failed: ${line.error}`];
    const { loss, gradients, changes, weights } = line as Line & Difference & ParityLine;
    return [
      line.method,
      line.on,
      line.of,
      f(line.first, 4),
      marked(loss, LIMITS.loss, line),
      marked(gradients.whole, LIMITS.gradients, line),
      marked(changes.whole, LIMITS.changes, line),
      marked(weights.whole, LIMITS.weights, line),
      farthest(gradients),
      farthest(weights),
      f(line.seconds, 0),
    ];
  };
  const head = ["method", "on", "beside", "first loss", "loss", "gradients", "changes", "weights"];
  const text = table([...head, "worst gradient", "worst weight", "s"], lines.map(cells));
  const wrong = lines.filter(
    (line) => exact(line) && (line.error !== undefined || !isWithin(line as Difference)),
  );
  return (
    text && `${text}\n\n${lines.length} compared, ${wrong.length} beyond the limits or failed.${notes(lines)}`
  );
}

/** Warnings of the product, each with where it came from. */
function notes(lines: readonly Line[]): string {
  const all = lines.flatMap(({ method, encoder, on, notes = [] }) =>
    (notes as string[]).map((note) => `- ${[method, encoder, on].filter(Boolean).join(", ")}: ${note}`),
  );
  return all.length === 0 ? "" : `\n\n${all.join("\n")}`;
}

const farthest = ({ worst, tensor }: Distance) =>
  tensor === "" ? small(worst) : `${small(worst)} ${tensor}`;

const resumed = ({ provider, method, encoder, same, killedAt, steps, skipped, error }: Line) => [
  provider,
  method,
  encoder,
  skipped
    ? `skipped: ${skipped}`
    : same
      ? `the same bytes, killed after ${killedAt} of ${steps} steps`
      : `**${error}**`,
];

/** What is aimed at: shares of a peer's images/s and memory, and seconds to the end of the first step. */
const AIMS = {
  ratio: { tf32: 0.95, bf16: 0.75 },
  memory: 1.2,
  start: 4,
  views: 20_000,
  whole: 12_000,
} as const;

/** With its aim; bold where that is missed. */
const aimed = (value: unknown, digits: number, sign: ">=" | "<=", aim: number | undefined) => {
  if (typeof value !== "number" || !Number.isFinite(value)) return "";
  const text = value.toFixed(digits);
  if (aim === undefined) return text;
  const met = sign === ">=" ? value >= aim : value <= aim;
  return `${met ? text : `**${text}**`} (${sign} ${aim})`;
};

/** A row for each of ours, and for what peers did alone; a peer's are beside each of ours of the same precision. */
function speed(lines: readonly Line[]): string {
  const subject = ({ method, encoder, size, batch, precision }: Line) =>
    `${method}, ${encoder}, ${size} px, ${batch}, ${precision}`;
  const isOurs = ({ side }: Line) => side === "ours";
  const sides = [...new Set(lines.filter((line) => !isOurs(line)).map(({ side }) => side as string))];
  const subjects = [...new Set(lines.map(subject))];
  const rows = subjects.flatMap((row) => {
    const own = lines.filter((line) => isOurs(line) && subject(line) === row);
    return (own.length > 0 ? own : [undefined]).map((line) => {
      const peers = sides.flatMap((side) => {
        const peer = lines.find((other) => other.side === side && subject(other) === row);
        const share = (of: string) => (line?.[of] as number) / (peer?.[of] as number);
        const aim = AIMS.ratio[line?.precision as keyof typeof AIMS.ratio];
        return [
          ...figures(peer),
          aimed(share("imagesPerSecond"), 2, ">=", aim),
          aimed(share("memoryMb"), 2, "<=", AIMS.memory),
        ];
      });
      const name = [row, line?.way].filter(Boolean).join(", ");
      return [name, ...figures(line), aimed(line?.start, 1, "<=", AIMS.start), ...peers];
    });
  });
  const head = (side: string) => [`${side}: ms`, "images/s", "MiB"];
  const others = sides.flatMap((side) => [...head(side), "ours / theirs", "memory"]);
  const all = [...head("ours"), "start, s", ...others];
  return table(["method, encoder, view, images a step", ...all], rows) + notes(lines);
}

const figures = (line: Line | undefined) =>
  line?.error === undefined
    ? [f(line?.ms, 2), f(line?.imagesPerSecond, 0), f(line?.memoryMb, 0)]
    : [`failed: ${line.error}`, "", ""];

function views(lines: readonly Line[]): string {
  const rows = lines.map(({ size, batch, viewsPerSecond }) => [
    size,
    batch,
    aimed(viewsPerSecond, 0, ">=", AIMS.views),
  ]);
  return table(["size, px", "images a step", "views/s"], rows) + notes(lines);
}

function losses(lines: readonly Line[]): string {
  const rows = lines.map(({ of, beside, precision, steps, mean, last }) => [
    ...[`${of}, ${precision}`, beside, steps],
    ...[f(mean, 5), f(last, 5)],
  ]);
  const head = ["losses of", "beside", "steps", "mean difference", "of the last quarter"];
  return table(head, rows) + notes(lines);
}

function whole(epochs: readonly Line[], runs: readonly Line[]): string {
  const text = table(
    ["epoch", "images/s", "waiting, %", "loss", "kNN"],
    epochs.map(({ epoch, imagesPerSecond, waitShare, loss, knn }) => [
      epoch,
      f(imagesPerSecond, 0),
      f(100 * (waitShare as number), 1),
      f(loss, 3),
      f(knn, 1),
    ]),
  );
  const ends = runs.map(
    ({ note, epochs, seconds, imagesPerSecond, knn, interrupted }) =>
      `${epochs} epochs in ${f(seconds, 0)} s, start and export included: ${aimed(imagesPerSecond, 0, ">=", AIMS.whole)} ` +
      `images/s, kNN ${f(knn, 1)}${interrupted ? ", stopped at the limit" : ""} (${note}).`,
  );
  return [text, ...ends].filter((part) => part !== "").join("\n\n");
}
