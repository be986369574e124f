/** The pyramid, the head and the losses of FCOS beside torchvision's, from weights and maps that are made of names alone. */
import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import { head, losses } from "../../src/methods/fcos.ts";
import { pyramid } from "../../src/nn/pyramid.ts";
import { Scope } from "../../src/nn/scope.ts";
import { add } from "../../src/ops/elementwise.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { transpose } from "../../src/ops/movement.ts";
import { compile, floats } from "../support/run.ts";
import { fixture, initial, unpacked, values } from "./parity.ts";

const [N, CLASSES, CHANNELS, CONVS] = [2, 3, 64, 2];
/** Channels and sides of the encoder's maps. */
const MAPS = [
  [6, 11],
  [8, 6],
  [12, 3],
] as const;

interface Wanted {
  readonly predicted: Readonly<Record<"cls_logits" | "bbox_regression" | "bbox_ctrness", string>>;
  readonly losses: Readonly<
    Record<string, { readonly values: Readonly<Record<string, number>>; readonly gradients: string[] }>
  >;
}

describe("FCOS equals torchvision's", () => {
  const wanted = fixture<Wanted>("fcos");
  const s = new Scope("training");
  const maps = MAPS.map(([c, side], i) => input(`map${i}`, "float32", ["n", c, side, side])); // [n, c, side, side] each
  const levels = pyramid(s, maps, { channels: CHANNELS, least: 1 }); // [n, channels, side, side] each
  const predicted = head(s, levels, { classes: CLASSES, convs: CONVS });
  const places = predicted.classes.shape[2] as number;
  const feeds = Object.fromEntries([
    ...MAPS.map(([c, side], i) => {
      const shape = [N, c, side, side];
      return [`map${i}`, floats(values(`map${i}`, shape), shape)] as const;
    }),
    ...s.all.map(({ name, shape }) => [name, floats(initial(name, shape), shape)] as const),
  ]);

  const near = (found: ArrayLike<number | bigint>, theirs: ArrayLike<number>, tolerance: number) => {
    expect(found.length).to.equal(theirs.length);
    const scale = Array.from(theirs).reduce((most, x) => Math.max(most, Math.abs(x)), 1e-6);
    for (let i = 0; i < theirs.length; i++)
      expect(Number(found[i]) / scale, `value ${i}`).to.be.closeTo(theirs[i]! / scale, tolerance);
  };

  it("in what is predicted of maps of odd sizes", async () => {
    expect(levels.map(({ shape }) => shape[2])).to.deep.equal([11, 6, 3, 2, 1]);
    const { classes, distances, centerness } = predicted;
    const byPlace = { cls_logits: classes, bbox_regression: distances, bbox_ctrness: centerness };
    const outputs = Object.entries(byPlace).map(([name, x]) => [name, transpose(x, [0, 2, 1])]);
    const found = await (await compile(Object.fromEntries(outputs)))(feeds);
    for (const [name, theirs] of Object.entries(wanted.predicted))
      near(found[name]!.data, unpacked(theirs), 1e-5);
  });

  for (const [name, theirs] of Object.entries(wanted.losses))
    it(`in the losses and their gradients with respect to the maps: ${name}`, async () => {
      const drawn = values(`${name}.classes`, [N, places]);
      const objects = Float32Array.from(drawn, (x) =>
        name === "objects" && x < -0.5 ? Math.trunc((x + 1) * 6) : -1,
      );
      const distances = Float32Array.from(values(`${name}.distances`, [N, places, 4]), (x, i) =>
        objects[Math.floor(i / 4)]! < 0 ? 0 : 0.25 + 2 * (x + 1),
      );
      const found = losses(predicted, {
        classes: input("objects", "float32", ["n", places]),
        distances: input("distances", "float32", ["n", places, 4]),
      });
      const loss = add(add(found.classification, found.boxes), found.centerness); // []
      const grads = gradients(loss, maps);
      const run = await compile({
        ...found,
        ...Object.fromEntries(grads.map((g, i) => [`gradient${i}`, g])),
      });
      const out = await run({
        ...feeds,
        objects: floats(objects, [N, places]),
        distances: floats(distances, [N, places, 4]),
      });
      const names = {
        classification: "classification",
        boxes: "bbox_regression",
        centerness: "bbox_ctrness",
      };
      for (const [own, other] of Object.entries(names)) {
        const value = theirs.values[other]!;
        expect(Number(out[own]!.data[0]) / Math.max(1, value), own).to.be.closeTo(
          value / Math.max(1, value),
          1e-5,
        );
      }
      theirs.gradients.forEach((g, i) => {
        near(out[`gradient${i}`]!.data, unpacked(g), 1e-4);
      });
    });
});
