/** Names of classes in a YAML file, in the forms that YOLO's have: a list or a map, on one line or several. */
import { expected } from "../../errors.ts";

const WANTED = "names: [cat, dog], or a line for each such as - cat or 0: cat";
/** A name in quotes or without, at the start of a text; `#` after a space begins a comment. */
const NAME =
  /^(?:"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|((?:[^\s"'#,[\]{}:]|[:#](?=\S))(?:[^#,[\]{}:]|[:#](?=\S))*))/;

/** @throws UserError if there are none in these forms, or the numbers of a map are not those from 0. */
export function yoloNames(text: string, path: string): string[] {
  const lines = text.split(/\r?\n/);
  const start = lines.findIndex((line) => /^["']?names["']?\s*:/.test(line));
  if (start < 0) throw expected(path, WANTED, "no names");
  const first = lines[start]!.slice(lines[start]!.indexOf(":") + 1).trim();
  const where = `${path}:${start + 1}`;
  const rest = lines.slice(start + 1);
  if (/^[[{]/.test(first)) return inBrackets([first, ...rest].join("\n"), where);
  if (first !== "" && !first.startsWith("#"))
    throw expected(where, WANTED, JSON.stringify(first.slice(0, 80)));
  return onLines(rest, path, start + 2);
}

/** "[a, b]" or "{0: a, 1: b}", over any number of lines. */
function inBrackets(text: string, where: string): string[] {
  const [keyed, end] = text[0] === "{" ? [true, "}"] : [false, "]"];
  const items: Item[] = [];
  for (let left = skipped(text.slice(1)); ; ) {
    if (left.startsWith(end)) return inOrder(items, keyed, where);
    const item = itemOf(left, keyed);
    if (!item) throw expected(where, WANTED, JSON.stringify(left.slice(0, 40)));
    items.push(item);
    left = skipped(item.rest);
    if (left.startsWith(",")) left = skipped(left.slice(1));
    else if (!left.startsWith(end)) throw expected(where, WANTED, JSON.stringify(left.slice(0, 40)));
  }
}

/** "- a" or "0: a" on each line, until one that is of another key. */
function onLines(lines: readonly string[], path: string, at: number): string[] {
  const items: Item[] = [];
  let keyed = false;
  for (const [i, line] of lines.entries()) {
    const own = skipped(line);
    if (own === "") continue;
    const dash = own.startsWith("- ") || own === "-";
    if (/^\S/.test(line) && !dash) break;
    if (items.length === 0) keyed = !dash;
    const item = keyed === dash ? undefined : itemOf(dash ? skipped(own.slice(1)) : own, keyed);
    if (!item || skipped(item.rest) !== "")
      throw expected(`${path}:${at + i}`, WANTED, JSON.stringify(line.trim().slice(0, 80)));
    items.push(item);
  }
  return inOrder(items, keyed, path);
}

interface Item {
  readonly key: number;
  readonly name: string;
  readonly rest: string;
}

/** A name, with its number before it where it is `keyed`. An empty one is a fault of its own. */
function itemOf(text: string, keyed: boolean): Item | undefined {
  const key = keyed ? /^["']?(\d{1,6})["']?\s*:(?=\s|$)\s*/.exec(text) : undefined;
  if (key === null) return undefined;
  const after = text.slice(key?.[0].length ?? 0);
  const found = NAME.exec(after);
  if (!found) return after === "" ? { key: Number(key?.[1]), name: "", rest: "" } : undefined;
  const [whole, double, single, plain] = found;
  const name = double === undefined ? (single?.replaceAll("''", "'") ?? plain!) : unescaped(double);
  return name === undefined
    ? undefined
    : { key: Number(key?.[1]), name: name.trim(), rest: after.slice(whole.length) };
}

/** The escapes that YAML shares with JSON. */
function unescaped(text: string): string | undefined {
  try {
    return JSON.parse(`"${text}"`) as string;
  } catch {
    return undefined;
  }
}

/** Without space and comments. */
const skipped = (text: string): string => text.replace(/^(?:\s+|#[^\n]*)+/, "");

function inOrder(items: readonly Item[], keyed: boolean, where: string): string[] {
  if (!keyed) return items.map(({ name }) => name);
  const names = Array<string>(items.length);
  for (const { key, name } of items) {
    if (!(key < items.length) || names[key] !== undefined)
      throw expected(where, `numbers of classes from 0 to ${items.length - 1}, each once`, `${key}`);
    names[key] = name;
  }
  return names;
}
