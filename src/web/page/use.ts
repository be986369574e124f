/** The encoder in use: downloaded, and asked what looks alike. */
import type { About, Answer, Request } from "../messages.ts";
import { made, part, say } from "./dom.ts";
import { chosenIn, imagesAmong, type NamedFile, onDrop } from "./files.ts";
import { pictureOf } from "./pictures.ts";
import { apart, decoded, packed, type Square } from "./squares.ts";
import { fileName, megabytes } from "./words.ts";

export interface InUse {
  take(answer: Extract<Answer, { kind: "encoder" | "found" }>): void;
  /** Shows images of these to click on. */
  offer(squares: readonly Square[]): void;
  /** The encoder has changed, or what was asked for has failed. */
  forget(): void;
}

/** Pictures that are offered, and look-alikes that are shown. */
const OFFERED = 24;
const NEAREST = 8;

interface Query {
  readonly square: Square;
  /** Its place, if it is one of those trained on. */
  readonly own?: number | undefined;
}

export function useEncoder(
  about: About,
  { send, failed }: { send: (request: Request) => void; failed: (message: string) => void },
): InUse {
  const { side } = about;
  let squares: readonly Square[] = [];
  /** The file as it was last exported. */
  let file: Blob | undefined;
  /** What waits for it. */
  let then: (() => void) | undefined;
  let asked: Query | undefined;

  /** Does it with the exported file, which is made first where there is none. */
  function withFile(act: () => void) {
    if (file) return act();
    then = act;
    say("exported", "Exporting…");
    send({ kind: "export" });
  }

  function download() {
    const link = made("a", "");
    link.href = URL.createObjectURL(file!);
    link.download = fileName(about);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may still be writing it
  }

  const find = (query: Query) =>
    withFile(() => {
      asked = query;
      // One more, since an image is nearest to itself.
      send({ kind: "find", images: packed([query.square], side), count: NEAREST + 1 });
    });

  /** A picture that is asked about when it is clicked. */
  function button(place: number): HTMLElement {
    const square = squares[place]!;
    const element = made("button", "pick", pictureOf(square, side));
    element.type = "button";
    element.setAttribute("aria-label", `what looks like ${square.name}`);
    element.addEventListener("click", () => find({ square, own: place }));
    return element;
  }

  async function ask(files: readonly NamedFile[]) {
    const [first] = imagesAmong(files);
    const pixels = await (first && decoded(first.file, side).catch(() => undefined));
    if (first && pixels) find({ square: { name: first.name, pixels } });
    else failed(first ? `${first.name} could not be read` : "there is no image among these files");
  }

  const input = part("query-input", HTMLInputElement);
  part("query").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    void ask(chosenIn(input));
    input.value = "";
  });
  onDrop(part("encoder"), (files) => void ask(files));
  part("download").addEventListener("click", () => withFile(download));

  return {
    take(answer) {
      if (answer.kind === "encoder") {
        file = new Blob([answer.bytes as Uint8Array<ArrayBuffer>], { type: "application/octet-stream" });
        const { maxRelative, step } = answer;
        const what = `${fileName(about)}: ${megabytes(file.size)}, after step ${step}.`;
        const how = maxRelative === 0 ? "exactly" : `to ${maxRelative.toExponential(0)}`;
        const equal = `Its features equal the trained encoder’s ${how}.`;
        say("exported", `${what} ${equal}`);
        then?.();
        then = undefined;
        return;
      }
      if (!asked) return;
      const { square, own } = asked;
      const nearest = (answer.nearest.nearest[0] ?? []).filter((place) => place !== own && squares[place]);
      part("found").replaceChildren(
        made("div", "strip", pictureOf(square, side)),
        made("p", "", "looks like these, the nearest first:"),
        made("div", "strip", ...nearest.slice(0, NEAREST).map(button)),
      );
    },
    offer(next) {
      squares = next;
      part("trained-on").replaceChildren(...apart(next.length, OFFERED).map(button));
    },
    forget() {
      file = undefined;
      then = undefined;
      say("exported", "");
      part("found").replaceChildren();
    },
  };
}
