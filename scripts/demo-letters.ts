/** Letters as strokes: a picture's labels look the same on a machine without fonts. */

/** On a grid four wide and six high, as paths of SVG; what a label does not need is not here. */
const LETTERS: Readonly<Record<string, string>> = {
  A: "M0 6L2 0L4 6M.7 4H3.3",
  B: "M0 3H2.4A1.5 1.5 0 0 1 2.4 6H0V0H2.2A1.5 1.5 0 0 1 2.2 3",
  C: "M4 1.2A2.3 3 0 1 0 4 4.8",
  D: "M0 0V6H1.4A2.6 3 0 0 0 1.4 0Z",
  E: "M3.6 0H0V6H3.6M0 3H3",
  F: "M3.6 0H0V6M0 3H3",
  G: "M3.9 1.2A2.3 3 0 1 0 4 4.6V3.2H2.4",
  H: "M0 0V6M4 0V6M0 3H4",
  I: "M2 0V6",
  J: "M3.4 0V4.2A1.6 1.8 0 0 1 .2 4.4",
  K: "M0 0V6M4 0L0 3.6M1.4 2.4L4 6",
  L: "M0 0V6H3.6",
  M: "M-.2 6V0L2 4L4.2 0V6",
  N: "M0 6V0L4 6V0",
  O: "M2 0A2.2 3 0 0 0 2 6A2.2 3 0 0 0 2 0",
  P: "M0 6V0H2.3A1.6 1.6 0 0 1 2.3 3.2H0",
  R: "M0 6V0H2.3A1.6 1.6 0 0 1 2.3 3.2H0M2 3.2L4 6",
  S: "M3.8 1C3.2-.4.2-.4.3 1.5C.4 3.4 3.8 2.6 3.8 4.5C3.8 6.4.6 6.4.1 4.9",
  T: "M0 0H4M2 0V6",
  U: "M0 0V4A2 2 0 0 0 4 4V0",
  V: "M0 0L2 6L4 0",
  Y: "M0 0L2 3L4 0M2 3V6",
};
const ADVANCE = 6.2;

export interface Place {
  /** Left end and middle of the letters, pixels. */
  readonly x: number;
  readonly y: number;
  /** Of a letter, pixels. */
  readonly height: number;
  readonly color: string;
}

/** A line of text as SVG, in capitals; what is no letter of the above is a space. */
export function lettering(text: string, { x, y, height, color }: Place): string {
  const scale = height / 6;
  const strokes = [...text.toUpperCase()].map((letter, i) => {
    const at = `translate(${x + i * ADVANCE * scale} ${y - height / 2}) scale(${scale})`;
    return letter in LETTERS ? `<path transform="${at}" d="${LETTERS[letter]}"/>` : "";
  });
  const style = `fill="none" stroke="${color}" stroke-width=".85" stroke-linecap="round" stroke-linejoin="round"`;
  return `<g ${style}>${strokes.join("")}</g>`;
}

/** Of a line of text, pixels. */
export const widthOf = (text: string, height: number): number => ((text.length * ADVANCE - 2.2) * height) / 6;
