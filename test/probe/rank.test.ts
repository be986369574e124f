import { expect } from "chai";
import { alignment, alphaReq, lidar, rankMe, uniformity } from "../../src/probe/rank.ts";
import { randomFor } from "../../src/random.ts";
import { falling, REFERENCE, views } from "./reference.ts";

describe("probe/rank", () => {
  const close = (found: number | undefined, wanted: number, relative = 1e-5) =>
    expect(found).to.be.closeTo(wanted, Math.abs(relative * wanted));

  it("agrees with NumPy", async () => {
    const [tall, wide, paired] = [
      falling("tall", 300, 40),
      falling("wide", 20, 40),
      views("paired", 60, 4, 16),
    ];
    close(await rankMe(tall), REFERENCE.rankme.tall);
    close(await rankMe(wide), REFERENCE.rankme.wide);
    close(await alphaReq(tall), REFERENCE.alpha);
    close(await uniformity(tall, 1), REFERENCE.uniformity);
    close(alignment(paired), REFERENCE.alignment);
    close(await lidar(paired), REFERENCE.lidar);
  });

  /** Rows whose covariance has the spectrum: the axes of space, each as far as it says. */
  const axes = (lengths: readonly number[]) => {
    const d = lengths.length;
    const data = Float32Array.from({ length: 2 * d * d }, (_, i) => {
      const [row, column] = [Math.floor(i / d), i % d];
      return row % d === column ? (row < d ? lengths[column]! : -lengths[column]!) : 0;
    });
    return { data, n: 2 * d, d };
  };

  it("counts dimensions: all that are equal, one of features that have collapsed", async () => {
    close(await rankMe(axes(Array(12).fill(3))), 12, 1e-4);
    close(await rankMe({ data: new Float32Array(40).fill(0.5), n: 8, d: 5 }), 1, 1e-4);
    expect(await rankMe({ data: new Float32Array(40), n: 8, d: 5 })).to.equal(0);
  });

  it("finds the power by which eigenvalues fall, not their scale, and says nothing of a few", async () => {
    const power = (exponent: number, d: number) =>
      axes(Array.from({ length: d }, (_, i) => 7 * (i + 1) ** (-exponent / 2)));
    close(await alphaReq(power(1, 60)), 1, 1e-4);
    close(await alphaReq(power(1.5, 120)), 1.5, 1e-4);
    expect(await alphaReq(power(1, 19))).to.equal(undefined);
    expect(await alphaReq(axes([...Array(10).fill(1), ...Array(30).fill(0)]))).to.equal(undefined);
  });

  it("gives 0 as uniformity and alignment of features that are all equal, -8 and 4 of opposite ones", async () => {
    const same = new Float32Array(3 * 2 * 4).fill(0.3);
    expect(await uniformity({ data: same, n: 6, d: 4 }, 1)).to.be.closeTo(0, 1e-5);
    expect(alignment({ data: same, images: 3, views: 2, d: 4 })).to.be.closeTo(0, 1e-6);
    close(await uniformity({ data: Float32Array.of(1, 0, -2, 0), n: 2, d: 2 }, 1), -8, 1e-4);
    close(alignment({ data: Float32Array.of(1, 0, -2, 0), images: 1, views: 2, d: 2 }), 4);
  });

  it("has LiDAR count the dimensions that tell images apart, not those in which their views differ", async () => {
    const random = randomFor("lidar");
    const [images, count, d, telling] = [80, 6, 10, 4];
    const own = Array.from({ length: images * d }, (_, i) => (i % d < telling ? random.normal() : 0));
    const data = Float32Array.from(
      { length: images * count * d },
      (_, i) => own[Math.floor(i / (count * d)) * d + (i % d)]! + 0.02 * random.normal(),
    );
    expect(await lidar({ data, images, views: count, d })).to.be.within(3.5, 4.5);
    expect(await rankMe({ data, n: images * count, d })).to.be.above(4.5);
  });
});
