import { expect } from "chai";
import { input, scalar, type Tensor } from "../../src/graph/tensor.ts";
import { barlowTwins } from "../../src/methods/barlow-twins.ts";
import { type BankLoss, contrastWithBank } from "../../src/methods/memory-bank.ts";
import type { Method } from "../../src/methods/method.ts";
import { predictOthers } from "../../src/methods/multi-crop.ts";
import { vicreg } from "../../src/methods/vicreg.ts";
import { cosine } from "../../src/nn/cosine.ts";
import { infoNce, ntXent } from "../../src/nn/losses.ts";
import { Scope } from "../../src/nn/scope.ts";
import { sinkhorn } from "../../src/nn/sinkhorn.ts";
import { add, div, mul, sub } from "../../src/ops/elementwise.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { matmul, swap } from "../../src/ops/matmul.ts";
import { concat, split, stopGradient } from "../../src/ops/movement.ts";
import { logSoftmax, normalize, softmax } from "../../src/ops/reduce.ts";
import { compile, floats, type Value } from "../support/run.ts";
import { fixture, unitRows, values } from "./parity.ts";
import { scopeOver } from "./scope.ts";

const [N, D] = [6, 5];
const IMAGES = 40;

interface Wanted {
  readonly loss: number;
  readonly gradients: Readonly<Record<string, readonly number[]>>;
}

interface Case {
  /** Inputs by which there are gradients, then the others. */
  readonly inputs: string;
  readonly loss: (...inputs: Tensor[]) => Tensor;
  /** What else is fed. */
  readonly feeds?: Readonly<Record<string, Value>>;
}

/** The loss of a method whose embeddings are its views: no encoder, and a projector of one layer that changes nothing. */
function lossOf<C>(method: Method<C>, config: C, ...views: Tensor[]): Tensor {
  return method.build(scopeOver(views).scope, config).loss;
}
const identity = {
  "projector.0.weight": floats(
    range(D * D).map((i) => (i % (D + 1) === 0 ? 1 : 0)),
    [D, D],
  ),
};

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** Of two large crops and a small one; `past` are the scores of a queue for each large crop. */
function swav(queued: boolean) {
  return (a: Tensor, b: Tensor, small: Tensor, prototypes: Tensor, ...queues: Tensor[]): Tensor => {
    const scores = [a, b, small].map((view) => matmul(normalize(view), swap(prototypes))); // [n, k] each
    const codes = queues.map((queue, i) => {
      const own = scores[i]!; // [n, k]
      if (!queued) return sinkhorn(div(own, 0.05)); // [n, k]
      const past = matmul(queue, swap(prototypes)); // [queue, k]
      return split(sinkhorn(div(concat([own, past], 0), 0.05)), 0, [own, past])[0]!; // [n, k]
    });
    return predictOthers(
      codes,
      scores.map((s) => logSoftmax(div(s, 0.1))),
    );
  };
}

function dino(s0: Tensor, s1: Tensor, s2: Tensor, t0: Tensor, t1: Tensor, centre: Tensor): Tensor {
  return predictOthers(
    [t0, t1].map((t) => softmax(div(sub(t, centre), 0.04))), // [n, d] each
    [s0, s1, s2].map((s) => logSoftmax(div(s, 0.1))),
  );
}

const bank = (kind: BankLoss): Case => ({
  inputs: "embeddings | own others",
  loss: (embeddings, own, others) =>
    contrastWithBank(new Scope("training"), kind, normalize(embeddings), { own, others }, scalar(0.2)).loss,
  feeds: { instances: floats([IMAGES], []), Z: floats([0], []) },
});

/** As scripts/reference/losses.py has them. */
const cases: Readonly<Record<string, Case>> = {
  "nt-xent": { inputs: "a b |", loss: (a, b) => ntXent(a, b, scalar(0.5)).loss },
  "nt-xent, cold": { inputs: "a b |", loss: (a, b) => ntXent(a, b, scalar(0.07)).loss },
  "info-nce": {
    inputs: "queries positives | negatives",
    loss: (queries, positives, negatives) =>
      infoNce(normalize(queries), normalize(positives), negatives, scalar(0.2)).loss,
  },
  swav: { inputs: "a b small prototypes | queue0 queue1", loss: swav(false) },
  "swav, queue": { inputs: "a b small prototypes | queue0 queue1", loss: swav(true) },
  "barlow-twins": {
    inputs: "a b |",
    loss: (a, b) => lossOf(barlowTwins, { ...barlowTwins.config(32).parse({}), layers: 1, width: D }, a, b),
    feeds: identity,
  },
  vicreg: {
    inputs: "a b |",
    loss: (a, b) => lossOf(vicreg, { ...vicreg.config(32).parse({}), layers: 1, width: D }, a, b),
    feeds: identity,
  },
  cosine: {
    inputs: "p0 p1 | t0 t1",
    loss: (p0, p1, t0, t1) => mul(add(cosine(p0, stopGradient(t1)), cosine(p1, stopGradient(t0))), -0.5),
  },
  dino: { inputs: "s0 s1 s2 | t0 t1 centre", loss: dino },
  "bank, infonce": bank("infonce"),
  "bank, softmax": bank("softmax"),
  "bank, nce": bank("nce"),
};

const ROWS: Readonly<Record<string, number>> = {
  negatives: 7,
  others: 7,
  prototypes: 4,
  queue0: 8,
  queue1: 8,
  centre: 1,
};
/** Sizes that are known only when a graph runs. */
const SYMBOLS: Readonly<Record<string, string>> = { negatives: "m", others: "m" };
const UNIT = ["negatives", "own", "others", "prototypes", "queue0", "queue1"];

/** What a case's input holds. */
function drawn(name: string, of: string): Value {
  const rows = ROWS[of] ?? N;
  const key = `${name}.${of}`;
  return floats(UNIT.includes(of) ? unitRows(key, [rows, D]) : values(key, [rows, D]).map((v) => 1.5 * v), [
    rows,
    D,
  ]);
}

describe("Losses equal PyTorch's, and so do their gradients", () => {
  const wanted = fixture<Readonly<Record<string, Wanted>>>("losses");

  it("has a case for each", () => {
    expect(Object.keys(cases).sort()).to.deep.equal(Object.keys(wanted).sort());
  });

  for (const [name, { inputs, loss, feeds = {} }] of Object.entries(cases))
    it(name, async () => {
      const [by, rest] = inputs.split("|").map((part) => part.split(" ").filter((word) => word)) as [
        string[],
        string[],
      ];
      const tensors = [...by, ...rest].map((of) => input(of, "float32", [SYMBOLS[of] ?? ROWS[of] ?? "n", D]));
      const value = loss(...tensors);
      const grads = gradients(value, tensors.slice(0, by.length));
      const run = await compile({
        loss: value,
        ...Object.fromEntries(by.map((of, i) => [`d${of}`, grads[i]!])),
      });
      const found = await run({
        ...feeds,
        ...Object.fromEntries([...by, ...rest].map((of) => [of, drawn(name, of)])),
      });
      const close = (own: number, theirs: number, where: string) => {
        const scale = Math.max(1, Math.abs(theirs));
        expect(own / scale, where).to.be.closeTo(theirs / scale, 1e-5);
      };
      close(Number(found.loss!.data[0]), wanted[name]!.loss, "loss");
      expect(Object.keys(wanted[name]!.gradients)).to.deep.equal(by);
      for (const of of by) {
        const theirs = wanted[name]!.gradients[of]!;
        expect(
          theirs.some((v) => Math.abs(v) > 1e-3),
          of,
        ).to.equal(true);
        expect(found[`d${of}`]!.data).to.have.length(theirs.length);
        theirs.forEach((v, i) => {
          close(Number(found[`d${of}`]!.data[i]), v, `gradient by ${of}, element ${i}`);
        });
      }
    });
});
