import { expect } from "chai";
import sharp from "sharp";
import { randomFor } from "../../src/random.ts";
import { html, jsonIn } from "../../src/report/html.ts";
import { pageOf } from "../../src/report/page.ts";
import { recipesInWords } from "../../src/report/recipes.ts";
import { fitted, spriteOf } from "../../src/report/sprite.ts";
import { plain } from "../views/support.ts";

describe("the page of a report", () => {
  const hostile = `</script><script>alert(1)</script><img src=x onerror="alert('2')">&amp;`;

  it("escapes whatever is no markup of its own", () => {
    const inside = html`<b title="${hostile}">${[hostile, undefined, 3, html`<i>${"<"}</i>`]}</b>`.text;
    expect(inside).to.match(/^<b title="[^"<>]*">[^<>]*3<i>&lt;<\/i><\/b>$/);
    expect(inside).to.include("&lt;/script&gt;").and.include("&amp;amp;").and.include("&#39;2&#39;");
    const json = jsonIn({ name: hostile }).text;
    expect(json).not.to.include("<");
    expect(JSON.parse(json)).to.deep.equal({ name: hostile });
  });

  it("asks for nothing from anywhere and runs no other program", async () => {
    const sections = html`<p>${hostile}</p>`;
    const text = await pageOf({ title: hostile, about: hostile, sections, charts: [], foot: hostile });
    expect(text.match(/<script/g)).to.have.length(2); // the data and the program
    expect(text.match(/<\/script/g)).to.have.length(2);
    expect(text).not.to.include("<img");
    const policy = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(text)![1]!;
    expect(policy)
      .to.match(/^default-src &#39;none&#39;;/)
      .and.not.to.match(/https?:|\*|script-src[^;]*unsafe/);
    expect(text).not.to.match(/(src|href)="(?!data:,)/);
  });

  it("tells how views are drawn, those that are drawn alike once", () => {
    const patch = (cell: number) =>
      plain(16, { patch: { grid: 3, cells: [cell], side: 0.8, jitter: 1 }, flip: 0.5 });
    const recipes = [patch(0), patch(4), plain(8, { crop: { scale: [0.2, 1], ratio: [1, 1] }, turn: true })];
    expect(recipesInWords(recipes)).to.deep.equal([
      "views 1 to 2: 16 px, crop of 100 % of the area, a patch of a grid of 3 x 3, flip 50 %",
      "view 3: 8 px, crop of 20 % to 100 % of the area, quarter turns",
    ]);
  });
});

describe("sprites", () => {
  const decoded = async (url: string) => {
    const bytes = Buffer.from(url.replace("data:image/webp;base64,", ""), "base64");
    const { data, info } = await sharp(bytes).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
    const at = (x: number, y: number) => [
      ...data.subarray(4 * (y * info.width + x), 4 * (y * info.width + x) + 4),
    ];
    return { bytes, info, at };
  };
  const flat = (side: number, color: readonly number[]) => ({
    width: side,
    height: side,
    pixels: Uint8Array.from({ length: 3 * side * side }, (_, i) => color[i % 3]!),
  });

  it("hold pictures in reading order, small ones in the middle of their cells, exactly", async () => {
    const pictures = [flat(8, [250, 10, 20]), undefined, flat(4, [1, 2, 3])];
    const sprite = await spriteOf(pictures, { cell: 8, columns: 2, mostBytes: 1e5, exact: true });
    expect(sprite).to.include({ cell: 8, columns: 2, rows: 2 });
    const { at, info } = await decoded(sprite.url);
    expect([info.width, info.height]).to.deep.equal([16, 16]);
    expect(at(0, 0)).to.deep.equal([250, 10, 20, 255]);
    expect(at(12, 4)[3]).to.equal(0);
    expect([at(1, 9)[3], at(2, 10), at(5, 13), at(6, 14)[3]]).to.deep.equal([
      0,
      [1, 2, 3, 255],
      [1, 2, 3, 255],
      0,
    ]);
  });

  it("stay within their bytes, of noise too", async () => {
    const random = randomFor("noise");
    const noisy = Array.from({ length: 64 }, () => ({
      ...{ width: 32, height: 32 },
      pixels: Uint8Array.from({ length: 3 * 32 * 32 }, () => random.integer(256)),
    }));
    const { bytes } = await decoded(
      (await spriteOf(noisy, { cell: 32, mostBytes: 20_000, exact: true })).url,
    );
    expect(bytes.length).to.be.below(20_000);
  });

  it("take pictures scaled to their cells", async () => {
    const picture = { width: 30, height: 10, pixels: new Uint8Array(900).fill(200) };
    const { width, height, pixels } = await fitted(picture, 60);
    expect([width, height]).to.deep.equal([60, 20]);
    expect(new Set(pixels)).to.deep.equal(new Set([200]));
  });
});
