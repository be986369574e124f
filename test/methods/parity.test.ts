import { expect } from "chai";
import { type Fixture, fixture, type Result, type Run, STEPS, train, unpacked } from "./parity.ts";

const WEIGHT_DECAY = [0.01, 0.02] as const;

/** By the fixture's name: as scripts/reference/steps.py has them. */
const runs: Readonly<Record<string, Run>> = {
  simclr: {
    method: "simclr",
    config: { projection: 8 },
    imageSize: 8,
    batch: 16,
    images: 32,
    scalars: { lr: [0.15, 0.05], weightDecay: WEIGHT_DECAY, temperature: [0.5, 0.4] },
  },
  "simclr-adamw": {
    method: "simclr",
    config: { projection: 8 },
    imageSize: 8,
    batch: 16,
    images: 32,
    optimizer: "adamw",
    scalars: { lr: [0.01, 0.005], weightDecay: [0.1, 0.2], temperature: [0.5, 0.4] },
  },
  moco: {
    method: "moco",
    config: { queue: 32, dim: 8, splits: 2 },
    imageSize: 8,
    batch: 16,
    images: 32,
    scalars: { lr: [0.01, 0.005], weightDecay: WEIGHT_DECAY, temperature: [0.2, 0.25], momentum: [0.5, 0.9] },
  },
  "moco-symmetric": {
    method: "moco",
    config: { queue: 32, dim: 8, splits: 2, symmetric: true },
    imageSize: 8,
    batch: 8,
    images: 24,
    scalars: { lr: [0.01, 0.005], weightDecay: WEIGHT_DECAY, temperature: [0.2, 0.25], momentum: [0.5, 0.9] },
  },
  swav: {
    method: "swav",
    config: { prototypes: 12, queue: 16, hidden: 16, dim: 8, smallCrops: 2, smallSize: 8 },
    imageSize: 12,
    batch: 8,
    images: 24,
    scalars: {
      lr: [0.15, 0.05],
      weightDecay: WEIGHT_DECAY,
      temperature: [0.1, 0.15],
      epsilon: [0.05, 0.08],
      queue: 2,
      prototypesTrain: 3,
    },
  },
  "barlow-twins": {
    method: "barlow-twins",
    config: { lambda: 0.05, layers: 2, width: 12 },
    imageSize: 8,
    batch: 16,
    images: 32,
    scalars: { lr: [0.03, 0.005], weightDecay: WEIGHT_DECAY },
  },
  byol: {
    method: "byol",
    config: { hidden: 16, projection: 8 },
    imageSize: 8,
    batch: 8,
    images: 24,
    scalars: { lr: [0.1, 0.02], weightDecay: WEIGHT_DECAY, momentum: [0.7, 1] },
    averagesCopied: true,
  },
  simsiam: {
    method: "simsiam",
    config: { layers: 2, projection: 12, predictor: 6 },
    imageSize: 8,
    batch: 8,
    images: 24,
    scalars: { lr: [0.2, 0.05], "lr.constant": [0.2, 0.2], weightDecay: WEIGHT_DECAY },
  },
  dino: {
    method: "dino",
    config: {
      outputs: 12,
      layers: 2,
      hidden: 16,
      headNorm: true,
      bottleneck: 8,
      smallCrops: 2,
      smallSize: 8,
    },
    imageSize: 12,
    batch: 8,
    images: 24,
    scalars: {
      lr: [0.1, 0.02],
      weightDecay: WEIGHT_DECAY,
      temperature: [0.1, 0.15],
      teacherTemperature: [0.08, 0.06],
      momentum: [0.7, 1],
      lastTrains: 3,
    },
    averagesCopied: true,
  },
  pirl: {
    method: "pirl",
    config: { dim: 8, negatives: 12, weight: 0.4, permutations: 3 },
    imageSize: 12,
    batch: 8,
    images: 24,
    scalars: { lr: [0.1, 0.02], weightDecay: WEIGHT_DECAY, temperature: [0.2, 0.25] },
  },
  "pirl-rotation": {
    method: "pirl",
    config: { transform: "rotation", loss: "nce", dim: 8, negatives: 12, weight: 0.4 },
    imageSize: 12,
    batch: 8,
    images: 24,
    scalars: { lr: [0.1, 0.02], weightDecay: WEIGHT_DECAY, temperature: [0.2, 0.25] },
  },
};

/** Root of the mean square. */
const rms = (x: readonly number[]): number => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
/** Tensors that move by less, such as a bias before a batch normalisation, are held to a share of this. */
const LEAST_MOVE = 0.01;

describe("Steps equal PyTorch's", () => {
  for (const [name, run] of Object.entries(runs))
    describe(name, () => {
      const wanted = fixture<Fixture>(`steps-${name}`);
      let found: Result;
      before(async () => {
        found = await train(run);
      });

      it(`has its losses in ${STEPS} steps, which learning changes`, () => {
        expect([found.losses.length, wanted.losses.length]).to.deep.equal([STEPS, STEPS]);
        wanted.losses.forEach((loss, i) => {
          expect(found.losses[i], `step ${i}`).to.be.closeTo(loss, 2e-5 * Math.max(Math.abs(loss), 0.1));
        });
        expect(Math.abs(wanted.losses.at(-1)! / wanted.withoutLearning.at(-1)! - 1)).to.be.above(0.01);
      });

      it("ends with its state: each tensor within 2e-4 of how far it moved", () => {
        expect([...found.state.keys()].sort()).to.deep.equal(Object.keys(wanted.state).sort());
        for (const [tensor, own] of found.state) {
          const [theirs, start] = [unpacked(wanted.state[tensor]!), found.start.get(tensor)!];
          expect(own, tensor).to.have.length(theirs.length);
          const moved = Math.max(rms(theirs.map((v, i) => v - start[i]!)), LEAST_MOVE);
          expect(rms(theirs.map((v, i) => v - own[i]!)) / moved, tensor).to.be.below(2e-4);
        }
      });
    });
});
