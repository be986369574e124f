/** What is compared. Ratios are ours over the peer's. */
import { encodeRow } from "./encoder.ts";
import type { Row } from "./row.ts";
import { peakRow, STEPS, stepRow } from "./steps.ts";
import { VIEWS_PHOTOS, VIEWS_SMALL } from "./views.ts";
import { EPOCH, SIZE, START } from "./whole.ts";

export const rows: readonly Row[] = [
  ...STEPS.map(stepRow),
  ...STEPS.map(peakRow),
  VIEWS_SMALL,
  ...VIEWS_PHOTOS,
  EPOCH,
  START,
  SIZE,
  ...[1, 8, 64].map(encodeRow),
];
