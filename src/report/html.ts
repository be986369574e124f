/** HTML in which nothing but what is written in the source is markup. */

/** Markup that is safe as it stands. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type Piece = Html | string | number | undefined | readonly Piece[];

/** A template whose values are escaped, unless they are markup themselves; undefined is nothing. */
export const html = (parts: TemplateStringsArray, ...values: readonly Piece[]): Html =>
  new Html(parts.map((part, i) => part + textOf(values[i])).join(""));

function textOf(piece: Piece): string {
  if (piece === undefined) return "";
  if (piece instanceof Html) return piece.text;
  if (typeof piece === "object") return piece.map(textOf).join("");
  return escaped(String(piece));
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escaped = (text: string): string => text.replace(/[&<>"']/g, (c) => ENTITIES[c]!);

/** JSON that cannot end the element that it stands in. */
export const jsonIn = (value: unknown): Html => new Html(JSON.stringify(value).replaceAll("<", "\\u003c"));
