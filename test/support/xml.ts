/** A strict parser of XML without comments, processing instructions and document types. */

export interface Element {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly Element[];
  /** Its own text, without that of its children. */
  readonly text: string;
}

const NAMED: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
/** Of XML 1.0. */
const CHARACTERS = /^[\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]*$/u;

/** @throws Error where the text is not well-formed */
export function parseXml(document: string): Element {
  let at = 0;
  const fail = (wanted: string): never => {
    throw new Error(`expected ${wanted} at ${JSON.stringify(document.slice(at, at + 40))}`);
  };
  const take = (pattern: RegExp): RegExpExecArray | null => {
    const sticky = new RegExp(pattern.source, "uy");
    sticky.lastIndex = at;
    const found = sticky.exec(document);
    if (found) at = sticky.lastIndex;
    return found;
  };
  const decode = (text: string): string => {
    const decoded = text.replace(/&([^;&]*);?/g, (_, reference: string) => {
      const [, hex, decimal] = /^#(?:x([0-9a-fA-F]+)|(\d+))$/.exec(reference) ?? [];
      if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
      if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
      return NAMED[reference] ?? fail("a known reference");
    });
    return CHARACTERS.test(decoded) ? decoded : fail("characters that XML has");
  };

  const element = (): Element => {
    const [, name] = take(/<([A-Za-z][\w.-]*)/) ?? fail("an element");
    const attributes: Record<string, string> = {};
    for (let found = take(/\s+([\w.-]+)="([^"<]*)"/); found; found = take(/\s+([\w.-]+)="([^"<]*)"/)) {
      if (found[1]! in attributes) fail("an attribute once");
      // Raw line ends and tabs in attributes would be read as spaces.
      attributes[found[1]!] = decode(found[2]!.replace(/[\t\n\r]/g, " "));
    }
    const children: Element[] = [];
    let text = "";
    if (take(/\s*\/>/)) return { name: name!, attributes, children, text };
    if (!take(/\s*>/)) fail("the end of a tag");
    while (!take(new RegExp(`</${name}>`))) {
      if (document.startsWith("</", at) || at >= document.length) fail(`</${name}>`);
      if (document[at] === "<") children.push(element());
      else text += decode((take(/[^<]+/) ?? fail("text"))[0]!);
    }
    return { name: name!, attributes, children, text };
  };

  if (!take(/<\?xml version="1\.0" encoding="UTF-8"\?>\s*/)) fail("a declaration");
  const root = element();
  take(/\s*/);
  return at === document.length ? root : fail("the end");
}
