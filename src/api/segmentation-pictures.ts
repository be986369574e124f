/** Some images with what their masks hold and what a classifier told, for a report. */
import type { Source } from "../data/canvas.ts";
import { openDecoder } from "../data/decoder.ts";
import { IGNORED, type Masked, type Placed } from "../data/masks.ts";
import { randomFor } from "../random.ts";
import { colorOf, type SegmentationShown } from "../report/segmentation.ts";
import { fitted, spriteOf } from "../report/sprite.ts";

/** A class of the masks. */
export interface Named {
  readonly index: number;
  readonly name: string;
}

/** What is seen of each square: its pixels at full size, places of classes. */
export type Take = (square: Placed, own: Uint8Array, predicted: Uint8Array) => void;

const IMAGES = 6;
/** Side of a picture, pixels. */
const CELL = 160;
/** Of the sheet, which is kept with the result. */
const MOST_BYTES = 100_000;

/** Pixels of an image at the size of a picture: places of classes. */
interface Planes {
  readonly width: number;
  readonly height: number;
  readonly own: Uint8Array;
  readonly predicted: Uint8Array;
}

/** Pictures of test images, drawn, of which `take` is to see every square. */
export function openPictures(
  { sources, masks }: Masked,
  seed: number,
  names: readonly Named[],
): { take: Take; pictures(): Promise<SegmentationShown> } {
  const drawn = randomFor(seed, "segmentation probe, pictures")
    .shuffled([...masks.keys()])
    .slice(0, IMAGES);
  const planes = new Map(drawn.map((image) => [image, planesOf(masks[image]!)]));
  return {
    take({ image, box, own: part }, own, predicted) {
      const picture = planes.get(image);
      if (!picture) return;
      const { width, height } = picture;
      for (let i = 0; i < width * height; i++) {
        const y = Math.floor(((Math.floor(i / width) + 0.5) * masks[image]!.height) / height);
        const x = Math.floor((((i % width) + 0.5) * masks[image]!.width) / width);
        if (y < part.top || y >= part.top + part.height || x < part.left || x >= part.left + part.width)
          continue;
        const at = (y - box.top) * box.width + x - box.left;
        picture.own[i] = own[at]!;
        picture.predicted[i] = predicted[at]!;
      }
    },
    async pictures() {
      const decoder = openDecoder({ ...sources, notes: [] }, { warn: () => {} }); // which was told
      const shown: Source[] = [];
      const files: string[] = [];
      const seen = new Set<number>();
      for (const [image, picture] of [...planes].sort(([a], [b]) => a - b)) {
        const file = sources.files[image]!;
        const source = await decoder.source(file, CELL);
        if (!source) continue;
        files.push(file);
        const { width, height } = picture;
        const square = await fitted(source, CELL);
        shown.push(square, ...[picture.own, picture.predicted].map((plane) => painted(plane)));
        for (const place of [...picture.own, ...picture.predicted]) seen.add(place);
        function painted(plane: Uint8Array): Source {
          const pixels = new Uint8Array(3 * width * height);
          plane.forEach((place, i) => {
            pixels.set(colorOf(names[place]?.index ?? IGNORED), 3 * i);
          });
          return { width, height, pixels };
        }
      }
      const sprite = await spriteOf(shown, { cell: CELL, columns: 3, mostBytes: MOST_BYTES, exact: true });
      const classes = names
        .filter((_, place) => seen.has(place))
        .map(({ index, name }) => ({ index, class: name }));
      return { sprite, files, classes };
    },
  };
}

/** As large as fits into a picture. */
function planesOf({ width, height }: Masked["masks"][number]): Planes {
  const scale = CELL / Math.max(width, height);
  const size = (side: number) => Math.max(1, Math.round(side * scale));
  const [w, h] = [size(width), size(height)];
  const plane = () => new Uint8Array(w * h).fill(IGNORED);
  return { width: w, height: h, own: plane(), predicted: plane() };
}
