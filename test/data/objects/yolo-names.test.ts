import { expect } from "chai";
import { yoloNames } from "../../../src/data/objects/yolo-names.ts";

const names = (text: string) => yoloNames(text, "data.yaml");

describe("data/objects/yolo-names", () => {
  const forms: [text: string, wanted: string[]][] = [
    ["nc: 2\nnames: [cat, dog]  # two\n", ["cat", "dog"]],
    ['names: [\'traffic light\', "a, \\"b\\"", it\'s,]', ["traffic light", 'a, "b"', "it's"]],
    ["names: [\n  'cat', # the first\n  dog\n]\ntrain: x", ["cat", "dog"]],
    ["names:\n- cat\n- 'it''s'\nnc: 2", ["cat", "it's"]],
    [
      "path: ../x\nnames: # all\n  0: person\n\n  # a comment\n  1: traffic light # red\n  2: 'yes'\nval: v",
      ["person", "traffic light", "yes"],
    ],
    ["names: {1: b, 0: a}", ["a", "b"]],
    ["names:\r\n  - a:b\r\n  - c#d\r\n", ["a:b", "c#d"]],
    ["names:\n  - cat\n  -\n", ["cat", ""]],
    ["names: []", []],
  ];
  for (const [text, wanted] of forms)
    it(`reads ${JSON.stringify(text)}`, () => expect(names(text)).to.deep.equal(wanted));

  const refused: [text: string, found: RegExp][] = [
    ["nc: 2", /^data.yaml: expected names: \[cat, dog\], .*, found no names$/],
    ["names: cat", /^data.yaml:1: .*, found "cat"$/],
    ["names: &a [cat]", /^data.yaml:1: .*, found "&a \[cat\]"$/],
    ["names: [cat, {a: b}]", /^data.yaml:1: .*, found "\{a: b\}\]"$/],
    ["names: [cat, dog", /^data.yaml:1: .*, found ""$/],
    ["names:\n  0: a\n  2: b", /^data.yaml: expected numbers of classes from 0 to 1, each once, found 2$/],
    ["names:\n  0: a\n  0: b", /found 0$/],
    ["names:\n  - a\n  1: b", /^data.yaml:3: .*, found "1: b"$/],
    ["names:\n  cat: 0", /^data.yaml:2: .*, found "cat: 0"$/],
    ['names: ["\\x"]', /^data.yaml:1: /],
  ];
  for (const [text, found] of refused)
    it(`refuses ${JSON.stringify(text)}`, () => expect(() => names(text)).to.throw(found));

  it("is quick at long ones", () => {
    const long = Array.from({ length: 20_000 }, (_, i) => `class ${i}`);
    expect(names(`names: [${long.join(", ")}]`)).to.have.length(20_000);
    expect(() => names(`names: [${" ".repeat(100_000)}`)).to.throw("expected names");
    expect(() => names(`names: ["${"\\".repeat(100_001)}`)).to.throw("expected names");
  });
});
