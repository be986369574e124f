import { expect } from "chai";
import { input, scalar } from "../../src/graph/tensor.ts";
import { crossEntropy, infoNce, ntXent } from "../../src/nn/losses.ts";
import { reshape } from "../../src/ops/movement.ts";
import { randomFor } from "../../src/random.ts";
import { checkGradient } from "../support/gradient.ts";
import { compile, floats, type Run } from "../support/run.ts";

type Rows = readonly (readonly number[])[];

/** Chen et al. 2020, equation 1, as it stands there, averaged over the 2n rows. */
function naiveNtXent(a: Rows, b: Rows, temperature: number) {
  const n = a.length;
  const z = [...a, ...b].map((row) => {
    const length = Math.hypot(...row);
    return row.map((v) => v / length);
  });
  const similarity = z.map((p) => z.map((q) => p.reduce((sum, v, k) => sum + v * q[k]!, 0) / temperature));
  let [loss, hits] = [0, 0];
  for (let i = 0; i < 2 * n; i++) {
    const positive = similarity[i]![(i + n) % (2 * n)]!;
    const others = similarity[i]!.filter((_, k) => k !== i);
    // Around the largest, which the sum of exponentials would else overflow at small temperatures.
    const top = Math.max(...others);
    loss += top + Math.log(others.reduce((sum, v) => sum + Math.exp(v - top), 0)) - positive;
    hits += positive === top ? 1 : 0;
  }
  return { loss: loss / (2 * n), accuracy: hits / (2 * n) };
}

function embeddings(n: number, d: number, ...key: readonly (number | string)[]): [Rows, Rows] {
  const random = randomFor("embeddings", n, d, ...key);
  const rows = () =>
    Array.from({ length: n }, () => Array.from({ length: d }, () => Math.fround(random.normal())));
  const a = rows();
  // The second view lies near the first, so that some rows find it and some do not.
  const b = rows().map((row, i) => row.map((v, k) => Math.fround(0.8 * v + 0.6 * a[i]![k]!)));
  return [a, b];
}

async function contrast(
  d: number,
): Promise<(a: Rows, b: Rows, temperature: number) => Promise<{ loss: number; accuracy: number }>> {
  const [a, b] = ["a", "b"].map((name) => input(name, "float32", ["n", d]));
  const { loss, accuracy } = ntXent(a!, b!, input("temperature", "float32", []));
  const run: Run = await compile({ loss, accuracy });
  return async (left, right, temperature) => {
    const out = await run({
      a: floats(left.flat(), [left.length, d]),
      b: floats(right.flat(), [right.length, d]),
      temperature: floats([temperature], []),
    });
    expect([out.loss!.shape, out.accuracy!.shape]).to.deep.equal([[], []]);
    return { loss: Number(out.loss!.data[0]), accuracy: Number(out.accuracy!.data[0]) };
  };
}

describe("NT-Xent", () => {
  for (const d of [1, 3, 16]) {
    it(`agrees with the paper's equation, d = ${d}`, async () => {
      const run = await contrast(d);
      for (const n of [1, 2, 5, 32])
        for (const temperature of [0.07, 0.5, 2]) {
          const [a, b] = embeddings(n, d);
          const [found, wanted] = [await run(a, b, temperature), naiveNtXent(a, b, temperature)];
          const where = `n = ${n}, temperature ${temperature}`;
          expect(found.loss, where).to.be.closeTo(wanted.loss, 1e-5 * Math.max(1, 2 / temperature));
          // In one dimension all similarities are 1 or -1: whether ties count is rounding.
          if (d > 1) expect(found.accuracy, where).to.be.closeTo(wanted.accuracy, 1e-6);
        }
    });
  }

  it("finds neither all nor none of these pairs, so that its accuracy is put to the test", () => {
    const [a, b] = embeddings(32, 16);
    expect(naiveNtXent(a, b, 0.5).accuracy).to.be.within(0.1, 0.9);
  });

  it("of one image is 0: the other view is the only row left", async () => {
    const run = await contrast(4);
    const { loss, accuracy } = await run([[1, 2, 3, 4]], [[-4, 3, 1, 0]], 0.1);
    expect(loss).to.be.closeTo(0, 1e-6);
    expect(accuracy).to.equal(1);
  });

  it("of equal embeddings is log(2n - 1), which a row's similarity with itself would make log 2n", async () => {
    const run = await contrast(3);
    for (const n of [2, 5])
      for (const temperature of [0.1, 1]) {
        const same = Array(n).fill([0.3, -1, 2]) as Rows;
        expect((await run(same, same, temperature)).loss).to.be.closeTo(Math.log(2 * n - 1), 1e-4);
      }
  });

  it("does not depend on the length of the embeddings, however great", async () => {
    const run = await contrast(8);
    const [a, b] = embeddings(4, 8);
    const { loss } = await run(a, b, 0.2);
    for (const factor of [1e-4, 1e6]) {
      const scaled = (rows: Rows) => rows.map((row) => row.map((v) => v * factor));
      expect((await run(scaled(a), b, 0.2)).loss).to.be.closeTo(loss, 1e-4);
      expect((await run(scaled(a), scaled(b), 0.2)).loss).to.be.closeTo(loss, 1e-4);
    }
  });

  it("takes the other view of the same image as positive, not a neighbour", async () => {
    const run = await contrast(3);
    const axes = [
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ];
    const paired = await run(axes, axes, 0.1);
    expect(paired.loss).to.be.closeTo(Math.log(1 + 4 * Math.exp(-10)), 1e-5);
    expect(paired.accuracy).to.equal(1);
    const turned = await run(axes, [...axes.slice(1), axes[0]!], 0.1);
    expect(turned.loss).to.be.closeTo(10, 0.01);
    expect(turned.accuracy).to.equal(0);
  });

  it("is finite for rows of zeros", async () => {
    const run = await contrast(2);
    const zeros = [
      [0, 0],
      [0, 0],
    ];
    expect((await run(zeros, zeros, 0.1)).loss).to.be.closeTo(Math.log(3), 1e-5);
  });

  it("has the gradient that central differences give, with respect to both views and the temperature", async () => {
    for (const temperature of [0.5, 1]) {
      await checkGradient(
        {
          shapes: [
            [3, 4],
            [3, 4],
          ],
          build: (a, b) => ntXent(a!, b!, scalar(temperature)).loss,
          symbolic: "all",
        },
        1,
      );
    }
    await checkGradient(
      {
        shapes: [[2, 3], [2, 3], [1]],
        build: (x, y, t) => ntXent(x!, y!, reshape(t!, [])).loss,
        draw: (x) => 1 + Math.abs(x),
      },
      2,
    );
  });
});

describe("cross-entropy", () => {
  it("is that of the softmax, averaged over the rows, with labels fed as floats", async () => {
    const logits = input("logits", "float32", ["n", 3]);
    const { loss, accuracy } = crossEntropy(logits, input("labels", "float32", ["n"]));
    const run = await compile({ loss, accuracy });
    const rows = [
      [1, 2, 0.5],
      [300, -300, 10],
      [0, 0, -1],
      [4, 1, 2],
    ];
    const labels = [1, 0, 2, 2];
    const naive = rows.map((row, i) => {
      const top = Math.max(...row);
      return top + Math.log(row.reduce((sum, v) => sum + Math.exp(v - top), 0)) - row[labels[i]!]!;
    });
    const found = await run({ logits: floats(rows.flat(), [4, 3]), labels: floats(labels, [4]) });
    expect(Number(found.loss!.data[0])).to.be.closeTo(naive.reduce((a, b) => a + b, 0) / 4, 1e-5);
    expect(Number(found.accuracy!.data[0])).to.equal(0.5);
  });

  it("has a gradient that central differences confirm", async () => {
    const labels = reshape(scalar(1), [1]);
    await checkGradient({ shapes: [[1, 4]], build: (logits) => crossEntropy(logits, labels).loss }, 1);
  });
});

describe("InfoNCE", () => {
  it("finds the positive among shared negatives", async () => {
    const [q, k] = ["q", "k"].map((name) => input(name, "float32", ["n", 2]));
    const negatives = input("negatives", "float32", ["m", 2]);
    const { loss, accuracy } = infoNce(q!, k!, negatives, input("temperature", "float32", []));
    const run = await compile({ loss, accuracy });
    const unit = (turn: number) => [Math.cos(turn), Math.sin(turn)];
    const [queries, positives, others] = [
      [unit(0), unit(1)],
      [unit(0.1), unit(2.5)],
      [unit(0.5), unit(3), unit(1.2)],
    ];
    const dot = (a: readonly number[], b: readonly number[]) => a[0]! * b[0]! + a[1]! * b[1]!;
    const terms = queries!.map((row, i) => {
      const logits = [positives![i]!, ...others!].map((other) => dot(row, other) / 0.2);
      return Math.log(logits.reduce((sum, v) => sum + Math.exp(v), 0)) - logits[0]!;
    });
    const found = await run({
      q: floats(queries!.flat(), [2, 2]),
      k: floats(positives!.flat(), [2, 2]),
      negatives: floats(others!.flat(), [3, 2]),
      temperature: floats([0.2], []),
    });
    expect(Number(found.loss!.data[0])).to.be.closeTo((terms[0]! + terms[1]!) / 2, 1e-5);
    expect(Number(found.accuracy!.data[0])).to.equal(0.5);
  });
});
