/**
 * Whole encoders against central differences. In each group of parameters the weights move along v = u * gradient,
 * u random for each element: a direction of its own in each draw, along which the loss changes enough to be seen in
 * float32. Along most directions of a million weights it does not.
 */
import { expect } from "chai";
import { encoders } from "../../src/encoders/index.ts";
import { type GradientRule, operators } from "../../src/graph/tensor.ts";
import { mul, sub } from "../../src/ops/elementwise.ts";
import { type Random, randomFor } from "../../src/random.ts";
import { type EncoderLoss, encoderLoss } from "./contrast.ts";

type Tensors = ReadonlyMap<string, Float32Array>;

// Loops: a callback for each of millions of elements takes seconds.
function dot(a: Tensors, b: Tensors): number {
  let sum = 0;
  for (const [name, values] of a) {
    const others = b.get(name)!;
    for (let i = 0; i < values.length; i++) sum += values[i]! * others[i]!;
  }
  return sum;
}

function unit(direction: Tensors): Tensors {
  const length = Math.sqrt(dot(direction, direction));
  const scaled = ([name, values]: [string, Float32Array]) => {
    const result = new Float32Array(values.length);
    for (let i = 0; i < values.length; i++) result[i] = values[i]! / length;
    return [name, result] as const;
  };
  return new Map([...direction].map(scaled));
}

/** The slope along v from two values of the loss, which `change` apart should be, over the slope from the gradient. */
async function slopeRatio(
  model: EncoderLoss,
  gradient: Tensors,
  v: Tensors,
  change: number,
): Promise<number> {
  const analytic = dot(v, gradient);
  const eps = change / Math.abs(analytic) / 2;
  const start = new Map([...v.keys()].map((name) => [name, model.weights.get(name)!.slice()]));
  const lossAt = async (distance: number) => {
    for (const [name, from] of start) {
      const [weights, along] = [model.weights.get(name)!, v.get(name)!];
      for (let i = 0; i < from.length; i++) weights[i] = from[i]! + distance * along[i]!;
    }
    return model.loss();
  };
  try {
    return ((await lossAt(eps)) - (await lossAt(-eps))) / (2 * eps) / analytic;
  } finally {
    for (const [name, from] of start) model.weights.get(name)!.set(from);
  }
}

interface Direction {
  /** Factor of each element of the gradient; uniform in [0, 2) by default. */
  readonly draw?: (random: Random) => number;
  /** Elements that move; all by default. */
  readonly moves?: (i: number, size: number) => boolean;
}

/** A random direction in which all tensors named have the same length, so that none hides behind another. */
function direction(
  gradient: Tensors,
  names: readonly string[],
  { draw, moves = () => true }: Direction = {},
): Tensors {
  const random = randomFor("direction", ...names);
  const factor = draw ?? ((r: Random) => r.uniform(0, 2));
  const along = (name: string) => {
    const g = gradient.get(name)!;
    const moved = new Float32Array(g.length);
    for (let i = 0; i < g.length; i++) if (moves(i, g.length)) moved[i] = g[i]! * factor(random);
    return unit(new Map([[name, moved]])).get(name)!;
  };
  return unit(new Map(names.map((name) => [name, along(name)])));
}

/** Queries and keys in a layer of queries, keys and values, whose gradient is by far the greatest. */
const queriesAndKeys: Direction = { moves: (i, size) => i < (2 / 3) * size };

/** Names by what their parameters are in a block: one wrong rule or layer shows in a group of its own. */
function groupsOf(gradient: Tensors, label: (name: string) => string): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const name of gradient.keys()) groups.set(label(name), [...(groups.get(label(name)) ?? []), name]);
  return groups;
}

const partOfBlock = (name: string) => name.replace(/^(blocks\.\d+|layer\d+\.\d+)\./, "");
/** Fewer groups, where a run of the encoder takes long. */
const kindOfLayer = (name: string) =>
  name.includes("downsample") ? "downsample" : name.replace(/^.*?(conv|bn)\d\..*$/, "$1");

interface Case {
  readonly name: string;
  readonly size: number;
  /** Of the form that the encoder has; the views' by default. */
  readonly imageSize?: number;
  readonly images: number;
  readonly label: (name: string) => string;
  /** Change of the loss between the two points. A ReLU has kinks: there the points must lie close together. */
  readonly change: number;
  readonly tolerance: number;
}
const cases: Case[] = [
  { name: "vit-tiny", size: 32, images: 2, label: partOfBlock, change: 5e-3, tolerance: 0.003 },
  // Positions interpolated.
  {
    name: "vit-tiny",
    size: 16,
    imageSize: 32,
    images: 2,
    label: partOfBlock,
    change: 5e-3,
    tolerance: 0.003,
  },
  { name: "resnet20", size: 32, images: 4, label: partOfBlock, change: 1e-3, tolerance: 0.01 },
  { name: "resnet18", size: 32, images: 2, label: partOfBlock, change: 1e-3, tolerance: 0.015 },
  // Above 64 px: the 7x7 stem and the max-pool.
  { name: "resnet18", size: 72, images: 2, label: kindOfLayer, change: 1e-3, tolerance: 0.015 },
  { name: "resnet50", size: 32, images: 2, label: kindOfLayer, change: 4e-4, tolerance: 0.015 },
];

/** Weak residual branches (Goyal et al. 2017 start them at 0): at full strength so small a batch has a kink at every step. */
function weakenBranches({ weights }: EncoderLoss, lastNorm: RegExp) {
  for (const [name, values] of weights) if (lastNorm.test(name)) values.fill(0.2);
}

/** Else the scores are near 0, attention is even everywhere and hardly depends on queries and keys. */
function sharpenAttention({ weights }: EncoderLoss) {
  for (const [name, values] of weights) {
    if (!name.endsWith("attn.qkv.weight")) continue;
    for (let i = 0; i < (2 / 3) * values.length; i++) values[i]! *= 6;
  }
}

function expectEachReached(gradient: Tensors) {
  for (const [name, values] of gradient) {
    expect(values.every(Number.isFinite), `${name} is finite`).to.equal(true);
    expect(
      values.some((v) => v !== 0),
      `${name} has a gradient`,
    ).to.equal(true);
  }
}

describe("gradients of whole encoders", () => {
  for (const { name, size, imageSize = size, images, label, change, tolerance } of cases) {
    const views = imageSize === size ? `${size} px` : `${size} of ${imageSize} px`;
    it(`${name} at ${views} agrees with central differences in each group of parameters`, async () => {
      const model = await encoderLoss(name, size, images, imageSize);
      weakenBranches(model, name === "resnet50" ? /layer.*bn3\.weight$/ : /layer.*bn2\.weight$/);
      const gradient = await model.gradient();
      expectEachReached(gradient);
      const groups = groupsOf(gradient, label);
      expect(groups.size).to.be.within(3, 20);
      for (const [group, names] of groups) {
        const ratio = await slopeRatio(model, gradient, direction(gradient, names), change);
        expect(ratio, group).to.be.closeTo(1, tolerance);
      }
    });
  }

  // vit-base is vit-small with wider layers, whose gradients take seconds.
  const checked = new Set([...cases.map(({ name }) => name), "vit-base"]);
  for (const { name } of encoders.filter((encoder) => !checked.has(encoder.name))) {
    it(`${name} gives every parameter a gradient`, async () => {
      expectEachReached(await (await encoderLoss(name, 32, 2)).gradient());
    });
  }

  describe("vit-tiny with sharp attention", () => {
    let model: EncoderLoss;
    let gradient: Tensors;
    before(async () => {
      model = await encoderLoss("vit-tiny", 32, 2);
      sharpenAttention(model);
      gradient = await model.gradient();
    });

    for (const name of ["attn.qkv.weight", "attn.qkv.bias"]) {
      it(`agrees in the queries and keys of ${name}`, async () => {
        const names = groupsOf(gradient, partOfBlock).get(name)!;
        const v = direction(gradient, names, queriesAndKeys);
        expect(await slopeRatio(model, gradient, v, 3e-3)).to.be.closeTo(1, 0.005);
      });
    }

    it("agrees along directions drawn without the gradient", async () => {
      for (let draw = 0; draw < 2; draw++) {
        const random = randomFor("any direction", draw);
        const v = new Map([...gradient].map(([name, g]) => [name, g.map(() => random.normal())]));
        expect(await slopeRatio(model, gradient, unit(v), 1e-3), `draw ${draw}`).to.be.closeTo(1, 0.02);
      }
    });

    it("does not agree with a gradient that is 5 % too large in one layer", async () => {
      const names = ["blocks.5.attn.proj.weight"];
      const wrong = new Map([[names[0]!, gradient.get(names[0]!)!.map((g) => g * 1.05)]]);
      expect(await slopeRatio(model, wrong, direction(wrong, names), 3e-3)).to.be.closeTo(1 / 1.05, 0.005);
    });

    // Each leaves out a term that a hurried author might.
    const broken: [operator: string, rule: GradientRule, group: string, at?: Direction][] = [
      ["Softmax", ({ outputs: [y], grad }) => [mul(y!, grad)], "attn.qkv.weight", queriesAndKeys],
      [
        "LayerNormalization",
        ({ inputs: [x, scale], outputs: [, mean, inverse], grad }) => [
          mul(mul(grad, scale!), inverse!),
          mul(grad, mul(sub(x!, mean!), inverse!)),
          grad,
        ],
        "patch_embed.proj.weight",
      ],
    ];
    for (const [name, rule, group, at] of broken) {
      it(`does not agree where the rule of ${name} lacks a term`, async () => {
        const op = operators.get(name) as { gradient: unknown };
        const right = op.gradient;
        op.gradient = rule;
        try {
          const other = await encoderLoss("vit-tiny", 32, 2);
          sharpenAttention(other);
          const wrong = await other.gradient();
          const names = groupsOf(wrong, partOfBlock).get(group)!;
          const ratio = await slopeRatio(other, wrong, direction(wrong, names, at), 3e-3);
          expect(Math.abs(ratio - 1)).to.be.above(0.05);
        } finally {
          op.gradient = right;
        }
      });
    }
  });
});
