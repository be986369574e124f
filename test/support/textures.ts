/** Images with a content of their own, for tests of duplicates. */
import sharp, { type Sharp } from "sharp";
import { randomFor } from "../../src/random.ts";

/** Soft patches of colour, the same for the same number. */
export async function texture(which: number, width = 72, height = 60): Promise<Sharp> {
  const random = randomFor("texture", which);
  const pixels = Uint8Array.from({ length: 7 * 6 * 3 }, () => random.integer(256));
  const data = await sharp(pixels, { raw: { width: 7, height: 6, channels: 3 } })
    .resize(width, height, { fit: "fill", kernel: "cubic" })
    .raw()
    .toBuffer();
  return sharp(data, { raw: { width, height, channels: 3 } });
}
