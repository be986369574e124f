/** How many images a page takes. */

const MOST_IMAGES = 20_000;
const MOST_BYTES = 512e6;

/** Of squares of `side` pixels a side: what a page can hold in memory. */
export const mostImages = (side: number): number =>
  Math.min(MOST_IMAGES, Math.floor(MOST_BYTES / (3 * side * side)));
