import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import { vicreg } from "../../src/methods/vicreg.ts";
import { scopeOver, vectorViews } from "./scope.ts";
import { batchOf, type State, type Stepper, stepperOf } from "./stepping.ts";

const [IMAGES, WIDTH] = [6, 24];
const SCALARS = { lr: 0.05, weightDecay: 1e-4 };
const artifact = compile({
  method: "vicreg",
  encoder: "resnet20",
  imageSize: 8,
  config: { width: WIDTH },
});

type Rows = readonly (readonly number[])[];
const rowsOf = (t: ort.Tensor): number[][] => {
  const d = t.dims.at(-1)!;
  return Array.from({ length: t.data.length / d }, (_, i) =>
    Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array),
  );
};
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** Bardes et al. 2021, equations 1 to 6, element by element; the options fall into one trap each. */
function naive(
  a: Rows,
  b: Rows,
  { centred = false, less = 1, eps = 1e-4, epsOutside = false, shares = 0.5 } = {},
) {
  const [n, d] = [a.length, a[0]!.length];
  const centre = (rows: Rows): Rows => {
    const means = rows[0]!.map((_, k) => sum(rows.map((row) => row[k]!)) / n);
    return rows.map((row) => row.map((v, k) => v - means[k]!));
  };
  const [x, y] = [centre(a), centre(b)];
  const [p, q] = centred ? [x, y] : [a, b];
  const invariance = sum(p.flatMap((row, i) => row.map((v, k) => (v - q[i]![k]!) ** 2))) / (n * d);
  let [variance, covariance] = [0, 0];
  for (const rows of [x, y])
    for (let i = 0; i < d; i++)
      for (let j = 0; j < d; j++) {
        const c = sum(rows.map((row) => row[i]! * row[j]!)) / (n - less);
        if (i !== j) covariance += c ** 2 / d;
        else {
          const std = epsOutside ? Math.sqrt(c) + eps : Math.sqrt(c + eps);
          variance += (shares * Math.max(0, 1 - std)) / d;
        }
      }
  return { invariance, variance, covariance };
}

describe("VICReg", () => {
  let stepper: Stepper;
  let state: State;
  before(async () => {
    stepper = await stepperOf(artifact);
    state = stepper.state(1);
  });

  it("has the paper's three terms of its embeddings, weighted 25, 25 and 1", async () => {
    const { outputs, metrics } = await stepper.step(state, batchOf(artifact, IMAGES, 8), SCALARS);
    const z = rowsOf(outputs.embedding!);
    const [a, b] = [z.slice(0, IMAGES), z.slice(IMAGES)];
    const wanted = naive(a, b);
    const terms = ["invariance", "variance", "covariance"] as const;
    for (const term of terms) expect(metrics[term]! / wanted[term], term).to.be.closeTo(1, 2e-5);
    expect(metrics.loss).to.be.closeTo(
      25 * wanted.invariance + 25 * wanted.variance + wanted.covariance,
      1e-4,
    );
    // Each of these would be told from the right one.
    const traps = {
      "invariance of centred embeddings": naive(a, b, { centred: true }),
      "divided by n": naive(a, b, { less: 0 }),
      "eps outside of the root": naive(a, b, { epsOutside: true }),
      "another eps": naive(a, b, { eps: 0 }),
      "variance summed over the views": naive(a, b, { shares: 1 }),
    };
    for (const [trap, found] of Object.entries(traps)) {
      const apart = Math.max(...terms.map((term) => Math.abs(found[term] / wanted[term] - 1)));
      expect(apart, trap).to.be.above(5e-5);
    }
  });

  it("pays for a collapse: hinge near 1, no covariance, and finite gradients", async () => {
    const last = "projector.6.weight";
    const { data, dims } = state.get(last)!;
    const zeros = new ort.Tensor("float32", new Float32Array(data.length), dims);
    const collapsed = new Map(state).set(last, zeros);
    const { metrics, next } = await stepper.step(collapsed, batchOf(artifact, IMAGES, 8), SCALARS);
    expect(metrics.variance).to.be.closeTo(1 - Math.sqrt(1e-4), 1e-6);
    expect([metrics.invariance, metrics.covariance]).to.deep.equal([0, 0]);
    for (const [name, { data }] of next) {
      expect(Array.from(data as Float32Array).every(Number.isFinite), name).to.equal(true);
    }
  });

  it("encodes each view by itself, with batch statistics of its own", () => {
    const { scope, seen } = scopeOver(vectorViews());
    const { cut } = vicreg.build(scope, vicreg.config(32).parse({}));
    expect(seen).to.deep.equal(scope.views);
    expect(cut!.map(({ shape }) => shape)).to.deep.equal([
      ["n", 2048],
      ["n", 2048],
    ]);
  });

  it("learns: the loss of 16 images with fixed views falls", async () => {
    const batch = batchOf(artifact, 16, 8);
    let at = state;
    const losses: number[] = [];
    for (let i = 0; i < 20; i++) {
      const { metrics, next } = await stepper.step(at, batch, { ...SCALARS, lr: 0.3 });
      losses.push(metrics.loss!);
      at = next;
    }
    expect(losses.at(-1)).to.be.below(0.8 * losses[0]!);
  });

  it("has the paper's settings, and the same with a narrower head for small images", () => {
    const large = vicreg.config(224).parse({});
    const weights = { invariance: 25, variance: 25, covariance: 1, layers: 3 };
    expect(large).to.include({ ...weights, width: 8192 });
    expect(vicreg.config(32).parse({})).to.include({ ...weights, width: 2048 });
    expect(vicreg.optimizer(224)).to.include({ name: "lars", lr: 0.2, weightDecay: 1e-6, warmupEpochs: 10 });
    expect(vicreg.views(large, 224).map(({ blur, solarize }) => [blur.p, solarize])).to.deep.equal([
      [1, 0],
      [0.1, 0.2],
    ]);
    expect(artifact.manifest.state.map(({ name }) => name)).not.to.include("projector.6.bias");
  });
});
