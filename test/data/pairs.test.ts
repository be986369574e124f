import { expect } from "chai";
import { openItems } from "../../src/data/items.ts";
import { pairsIn } from "../../src/data/pairs.ts";
import { rowsOf } from "../../src/data/table.ts";
import { UserError } from "../../src/errors.ts";

const files = ["a.png", "b.png", "c,1.png", "d.png", "e/f.png", "z.png"];
const read = (text: string, path = "pairs.csv") => pairsIn(text, path, "/root", files);

describe("data/pairs", () => {
  it("makes one group of lines that share an image, and pairs images of one line alone", () => {
    const groups = read('first,second\nb.png,a.png\n./b.png , "c,1.png"\n\nd.png,e/f.png,/root/z.png\n');
    expect(groups.map(({ pictures, shots }) => [pictures, shots])).to.deep.equal([
      [
        [{ file: 0 }, { file: 1 }, { file: 1 }, { file: 2 }],
        [0, 2],
      ],
      [[{ file: 3 }, { file: 4 }, { file: 5 }], [0]],
    ]);
    const { count, pair } = openItems({ groups, window: 0, far: 1, fingerprint: "" }, 0);
    expect(count).to.equal(2);
    const drawn = new Set(
      Array.from({ length: 200 }, (_, epoch) =>
        pair(0, epoch)
          .map(({ file }) => file)
          .sort()
          .join(),
      ),
    );
    expect([...drawn].sort()).to.deep.equal(["0,1", "1,2"]); // never 0 and 2
  });

  it("reads the same in any order, and from arrays of names", () => {
    const wanted = read("a.png,b.png\nd.png,z.png\n");
    expect(read("z.png,d.png\nb.png,a.png\na.png,b.png")).to.deep.equal(wanted);
    expect(read('["b.png", "a.png"]\n\n["d.png", "z.png"]\n', "pairs.jsonl")).to.deep.equal(wanted);
  });

  const faults: readonly [text: string, says: string, path?: string][] = [
    ["a.png,b.png\na.png\n", "pairs.csv:2: expected two images or more, found 1"],
    ["a.png,./a.png", "pairs.csv:1: expected different images, found one of them twice"],
    ["", "pairs.csv: expected lines of two images or more, found none"],
    [
      "a.png,x.png\ny.png,b.png\nu.png,v.png\n../a.png,a.png",
      'pairs.csv: expected images of /root, found no "x.png", "y.png", "u.png" and 2 more; name them relative to that folder',
    ],
    ['a.png,"b.png', 'pairs.csv:1: expected values with commas between them, found "a.png,\\"b.png"'],
    [
      '{"a": 1}',
      'pairs.jsonl:1: expected an array of names such as ["a.png", "b.png"], found {"a": 1}',
      "pairs.jsonl",
    ],
  ];
  for (const [text, says, path] of faults) {
    it(`says: ${says}`, () => {
      expect(() => read(text, path)).to.throw(UserError, says);
    });
  }
});

describe("data/table", () => {
  it("reads quotes, spaces, empty fields and lines of Windows, and leaves out what is said besides", () => {
    expect(rowsOf('\uFEFFa, "b ""c"", d" ,\r\n# no\r\n\r\n,1\r\n', "t")).to.deep.equal([
      { line: 1, fields: ["a", 'b "c", d', ""] },
      { line: 4, fields: ["", "1"] },
    ]);
  });
});
