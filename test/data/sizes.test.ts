import { expect } from "chai";
import { canvasFor, typicalSide } from "../../src/data/sizes.ts";
import { findImages } from "../../src/data/sources.ts";
import { plain, temporaryFolder } from "./folder.ts";

describe("data/sizes", () => {
  const folder = temporaryFolder();
  const jpeg = (width: number, height: number, orientation = 1) =>
    plain(width, height, { r: 9, g: 9, b: 9 }).withMetadata({ orientation }).jpeg().toBuffer();

  it("has no canvas of its own for images of one size, and for others one that each fits", async () => {
    await folder.write("same/a.jpg", await jpeg(40, 30));
    await folder.write("same/b.jpg", await jpeg(40, 30));
    await folder.write("same/broken.jpg", "no image");
    const same = await findImages(`${folder.path}/same`);
    expect(await canvasFor(same, 64)).to.equal(undefined);
    expect(await typicalSide(same)).to.equal(30);

    await folder.write("same/turned.jpg", await jpeg(40, 30, 6)); // shown upright, 30 by 40
    const turned = await findImages(`${folder.path}/same`);
    expect(await canvasFor(turned, 64)).to.equal(40);
    expect(await canvasFor(turned, 16)).to.equal(32);

    const squares = { ...turned, objects: [] };
    expect(await canvasFor(squares, 64)).to.equal(40);
    expect(await canvasFor(squares, 16)).to.equal(16);
    expect(await typicalSide(squares)).to.equal(40);
  });
});
