/** The images that someone brings: from files, a camera, or the sample. */
import { mostImages } from "../bounds.ts";
import { SAMPLE } from "../sample.ts";
import { openCamera } from "./camera.ts";
import { part, say, show } from "./dom.ts";
import { chosenIn, imagesAmong, type NamedFile, onDrop, readFiles } from "./files.ts";
import { pictureOf } from "./pictures.ts";
import { apart, type Square, sampled } from "./squares.ts";
import { count, leftOutLine } from "./words.ts";

export interface Gathered {
  readonly squares: readonly Square[];
  /** Files are being read. */
  readonly busy: boolean;
  /** Takes these in place of all others. */
  replace(squares: readonly Square[]): void;
  /** Stops the camera. */
  stop(): void;
}

/** Pictures of them that are shown. */
const SHOWN = 24;

/** @param sheet the sample; asked for when the page loads, since nothing is later */
export function gather(
  side: number,
  sheet: Promise<Blob>,
  { changed, failed }: { changed: () => void; failed: (message: string) => void },
): Gathered {
  const most = mostImages(side);
  let squares: Square[] = [];
  let busy = false;
  let stopCamera: (() => void) | undefined;
  const video = part("viewfinder", HTMLVideoElement);
  const camera = part("camera", HTMLButtonElement);

  function replace(next: readonly Square[]) {
    squares = next.slice(0, most);
    const shown = apart(squares.length, SHOWN).map((at) => pictureOf(squares[at]!, side));
    part("gathered").replaceChildren(...shown);
    show("clear", squares.length > 0);
    changed();
  }

  /** Runs what takes a while, one at a time. */
  async function during(work: () => Promise<void>) {
    if (busy) return;
    busy = true;
    changed();
    try {
      await work();
    } catch (error) {
      failed(error instanceof Error ? error.message : String(error));
    }
    busy = false;
    changed();
  }

  const read = (given: readonly NamedFile[]) =>
    during(async () => {
      const images = imagesAmong(given);
      if (images.length === 0) throw new Error("there is no image among these files");
      const taken = images.slice(0, most - squares.length);
      const bar = part("read", HTMLProgressElement);
      const tell = (done: number) => {
        bar.max = taken.length;
        bar.value = done;
        say("read-count", `${count(done)} of ${count(taken.length)}`);
      };
      tell(0);
      show("reading", true);
      const found = await readFiles(taken, side, tell);
      show("reading", false);
      say("left-out", leftOutLine(found.leftOut, images.length - taken.length, most));
      replace([...squares, ...found.squares]);
    });

  function stop() {
    stopCamera?.();
    stopCamera = undefined;
    video.hidden = true;
    camera.setAttribute("aria-pressed", "false");
    say("camera", "Camera");
  }

  const film = () =>
    during(async () => {
      video.hidden = false;
      let frames = 0;
      const take = (pixels: Uint8Array) => {
        say("camera", `Stop (${++frames})`);
        replace([...squares, { name: `frame ${frames}`, pixels }]);
        if (squares.length === most) stop();
      };
      try {
        stopCamera = await openCamera(video, side, take);
        camera.setAttribute("aria-pressed", "true");
        say("camera", "Stop");
      } catch (error) {
        stop();
        throw error;
      }
    });

  for (const kind of ["folder", "files"]) {
    const input = part(`${kind}-input`, HTMLInputElement);
    part(kind).addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      void read(chosenIn(input));
      input.value = ""; // so that the same can be chosen again
    });
  }
  show("folder", "webkitdirectory" in HTMLInputElement.prototype);
  onDrop(part("images"), (files) => void read(files));
  camera.addEventListener("click", () => (stopCamera ? stop() : void film()));
  say("sample-count", String(SAMPLE.count));
  part("sample").addEventListener("click", () => {
    void during(async () => replace([...squares, ...(await sampled(await sheet, side))]));
  });
  part("clear").addEventListener("click", () => {
    say("left-out", "");
    replace([]);
  });

  return {
    get squares() {
      return squares;
    },
    get busy() {
      return busy;
    },
    replace,
    stop,
  };
}
