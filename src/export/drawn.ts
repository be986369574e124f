/** Images for a comparison where there are no photographs: shades that change slowly, and noise on them. */
import { randomFor } from "../random.ts";
import type { Images } from "./verify.ts";

/** Discs of an image. */
const DISCS = 6;
/** Standard deviation of the noise, of 255. */
const NOISE = 12;

/** Images uint8 [n, side, side, 3] of discs with soft edges, in colours of their own; the same ones each time. */
export function drawnImages(n: number, side: number): Images {
  const data = new Uint8Array(n * side * side * 3);
  for (let i = 0; i < n; i++) {
    const random = randomFor("drawn", i);
    const color = () => [0, 1, 2].map(() => random.uniform(0, 255)) as [number, number, number];
    const ground = color();
    const discs = Array.from({ length: DISCS }, () => {
      const [x, y, radius] = [random.uniform(), random.uniform(), random.uniform(0.05, 0.4)];
      return { x, y, radius, color: color() };
    });
    for (let at = 0; at < side * side; at++) {
      const [x, y] = [((at % side) + 0.5) / side, (Math.floor(at / side) + 0.5) / side];
      const shade = [...ground];
      for (const disc of discs) {
        const far = Math.hypot(x - disc.x, y - disc.y) / disc.radius;
        const cover = Math.min(1, Math.max(0, 2 - 2 * far)); // all of the inner half, none from the edge on
        for (let c = 0; c < 3; c++) shade[c]! += cover * (disc.color[c]! - shade[c]!);
      }
      for (let c = 0; c < 3; c++) {
        const value = Math.round(shade[c]! + NOISE * random.normal());
        data[3 * (i * side * side + at) + c] = Math.min(255, Math.max(0, value));
      }
    }
  }
  return { data, shape: [n, side, side, 3] };
}
