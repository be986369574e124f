import { expect } from "chai";
import { EVER, type Group, type Items, openItems, type Picture } from "../../src/data/items.ts";
import { epochOrders } from "../../src/data/order.ts";
import { randomFor } from "../../src/random.ts";

const clip = (file: number, at: readonly number[], shots: readonly number[] = [0]): Group => ({
  pictures: { file, count: at.length, times: Float64Array.from(at) },
  at: Float64Array.from(at),
  shots,
});
const items = (groups: readonly Group[], window: number, far: number): Items => ({
  groups,
  window,
  far,
  fingerprint: "",
});

/** Times that are not regular: now and then nothing for long. */
function uneven(file: number, count: number): number[] {
  const random = randomFor("uneven", file);
  let now = random.integer(50);
  return Array.from({ length: count }, () => {
    now += random.chance(0.03) ? 200 + random.integer(400) : 1 + random.integer(9);
    return now;
  });
}

describe("data/items", () => {
  const [WINDOW, FAR] = [12, 60];
  const clips = [
    uneven(0, 400),
    uneven(1, 90),
    uneven(2, 3),
    Array.from({ length: 500 }, (_, i) => i),
    [5, 9],
  ];
  const shots = [[0, 40, 41, 200], [0], [0, 2], [0, 100, 250, 251], [0]];
  const groups = clips.map((at, file) => clip(file, at, shots[file]));
  const { count, pair } = openItems(items(groups, WINDOW, FAR), 3);
  const at = ({ file, frame }: Picture) => clips[file]![frame!]!;
  const shotOf = ({ file, frame }: Picture) => shots[file]!.findLastIndex((first) => first <= frame!);

  it("never has frames of a clip together in a batch, but as a pair within the window or unrelated", () => {
    let unrelated = 0;
    for (let epoch = 0; epoch < 40; epoch++) {
      const order = epochOrders(count, 3)(epoch);
      const batch = 7;
      for (let from = 0; from + batch <= count; from += batch) {
        const pairs = order.slice(from, from + batch).map((item) => pair(item, epoch));
        for (const [a, b] of pairs) {
          expect(a.file).to.equal(b.file);
          expect(Math.abs(at(a) - at(b))).to.be.at.most(WINDOW);
          expect(shotOf(a)).to.equal(shotOf(b));
        }
        const frames = pairs.flatMap((own, item) => own.map((picture) => ({ picture, item })));
        for (const one of frames)
          for (const other of frames) {
            if (one.item === other.item || one.picture.file !== other.picture.file) continue;
            expect(Math.abs(at(one.picture) - at(other.picture))).to.be.above(FAR);
            unrelated++;
          }
      }
    }
    expect(unrelated).to.be.above(1000); // of which the clips give many
  });

  it("holds that for a whole epoch, and so for a queue of its earlier batches", () => {
    for (let epoch = 0; epoch < 20; epoch++) {
      const frames = Array.from({ length: count }, (_, item) => pair(item, epoch)).flatMap((own, item) =>
        own.map((picture) => ({ picture, item })),
      );
      for (const one of frames)
        for (const other of frames)
          if (one.item !== other.item && one.picture.file === other.picture.file)
            expect(Math.abs(at(one.picture) - at(other.picture))).to.be.above(FAR);
    }
  });

  it("comes to every frame over the epochs, and pairs it with others where there are any", () => {
    const seen = clips.map(() => new Set<number>());
    const alone = clips.map(() => new Set<number>());
    const { count, pair } = openItems(items(groups, 4, 10), 3);
    for (let epoch = 0; epoch < 2000; epoch++)
      for (let item = 0; item < count; item++) {
        const [a, b] = pair(item, epoch);
        for (const { file, frame } of [a, b]) seen[file]!.add(frame!);
        if (a.frame === b.frame) alone[a.file]!.add(a.frame!);
      }
    expect(seen.map(({ size }) => size)).to.deep.equal(clips.map(({ length }) => length));
    expect(alone[4]!.size).to.equal(0);
    expect(alone[3]).to.include(250); // a shot of one frame
    for (const frame of alone[3]!) expect(shots[3]!.some((cut) => Math.abs(frame - cut) <= 4)).to.equal(true);
  });

  it("draws by the seed, the epoch and the item alone, either picture first", () => {
    const again = openItems(items(groups, WINDOW, FAR), 3);
    const other = openItems(items(groups, WINDOW, FAR), 4);
    const all = (of: typeof pair) => [5, 0, 3].map((item) => of(item, 7));
    expect(all(again.pair)).to.deep.equal(all(pair));
    expect(all(other.pair)).not.to.deep.equal(all(pair));
    const two = openItems(items([clip(0, [0, 1])], EVER, EVER), 0);
    const firsts = Array.from({ length: 400 }, (_, epoch) => two.pair(0, epoch)[0].frame!);
    expect(firsts.reduce((a, b) => a + b) / 400).to.be.closeTo(0.5, 0.1);
  });

  it("has one item of a group where nothing of it is unrelated", () => {
    const { count, pair } = openItems(items([clip(0, clips[0]!), clip(1, clips[1]!)], 20, EVER), 1);
    expect(count).to.equal(2);
    const frames = new Set<number>();
    for (let epoch = 0; epoch < 3000; epoch++) {
      const [a, b] = pair(0, epoch);
      frames.add(a.frame!);
      expect(Math.abs(at(a) - at(b))).to.be.at.most(20);
    }
    expect(frames.size).to.be.above(300); // by chance not all
  });
});
