/** Exact duplicates: images of the same bytes, or of other bytes with the same pixels. */
import type { Looked } from "./inspect.ts";

export interface Same {
  /** Places of the images, the one that comes first in front. */
  readonly images: readonly number[];
  /** Whether all have the same bytes. */
  readonly bytes: boolean;
}

/** Groups of two or more, by their first image. */
export function findSame(images: readonly (Looked | string)[]): readonly Same[] {
  const groups = new Map<string, number[]>();
  images.forEach((image, place) => {
    if (typeof image === "string") return;
    const own = groups.get(image.pixels);
    if (own) own.push(place);
    else groups.set(image.pixels, [place]);
  });
  const bytesOf = (place: number) => (images[place] as Looked).bytes;
  return [...groups.values()]
    .filter(({ length }) => length > 1)
    .map((places) => ({ images: places, bytes: new Set(places.map(bytesOf)).size === 1 }));
}
