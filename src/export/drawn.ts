/** Images for a comparison where there are no photographs: shades that change slowly, and noise on them; and sounds. */
import { randomFor } from "../random.ts";
import type { Images, Sounds } from "./verify.ts";

/** Discs of an image. */
const DISCS = 6;
/** Standard deviation of the noise, of 255. */
const NOISE = 12;
/** Of a sound. */
const TONES = 4;

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

/** Sounds float32 [n, samples] of a few tones each that fade, and noise on them; the same ones each time. */
export function drawnSounds(n: number, rate: number, samples: number): Sounds {
  const data = new Float32Array(n * samples);
  for (let i = 0; i < n; i++) {
    const random = randomFor("drawn sound", i);
    const tones = Array.from({ length: TONES }, () => ({
      turns: random.uniform(80, rate / 4) / rate, // of a sample
      fade: random.uniform(0.5, 4) / samples,
    }));
    for (let at = 0; at < samples; at++) {
      const heard = tones.map(({ turns, fade }) => Math.sin(2 * Math.PI * turns * at) * Math.exp(-fade * at));
      data[i * samples + at] = heard.reduce((a, b) => a + b, 0) / (2 * TONES) + random.uniform(-0.01, 0.01);
    }
  }
  return { data, shape: [n, samples] };
}
