/** The built-in sample: how `sample.png` is laid out, in reading order. */
export const SAMPLE = {
  /** Of a square, pixels. */
  side: 40,
  columns: 32,
  count: 512,
} as const;
