/** Comma-separated values (RFC 4180), read strictly. */
import { readFile, stat } from "node:fs/promises";
import { expected } from "../errors.ts";
import { faultOf } from "../fault.ts";

export interface Row {
  /** In the file, counted from 1. */
  readonly line: number;
  readonly fields: readonly string[];
}

/**
 * The rows of a text: fields with commas between them, without the spaces about them, or in double quotes, where two mean
 * one. Empty lines and lines that start with # are left out.
 * @throws UserError at a quote that does not end, or that something follows but a comma.
 */
export function rowsOf(text: string, path: string): Row[] {
  const rows: Row[] = [];
  for (const [i, raw] of text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .entries()) {
    if (raw.trim() === "" || raw.startsWith("#")) continue;
    rows.push({ line: i + 1, fields: fieldsOf(raw, `${path}:${i + 1}`) });
  }
  return rows;
}

function fieldsOf(line: string, where: string): string[] {
  const fields: string[] = [];
  const field = /\s*(?:"((?:[^"]|"")*)"|([^",]*))\s*(,|$)/y;
  for (let at = 0; at <= line.length; at = field.lastIndex) {
    field.lastIndex = at;
    const found = field.exec(line);
    if (!found) throw expected(where, "values with commas between them", JSON.stringify(line.slice(0, 80)));
    fields.push(found[1]?.replaceAll('""', '"') ?? found[2]!.trim());
    if (found[3] === "") break;
  }
  return fields;
}

const MAX_TABLE = 2 ** 27;

/** The text of a file of such rows; `what` names it in errors. @throws UserError if it cannot be read or is too large. */
export async function tableText(path: string, what: string): Promise<string> {
  const stats = await stat(path).catch((error) => {
    throw expected(path, what, faultOf(error));
  });
  if (!stats.isFile() || stats.size > MAX_TABLE)
    throw expected(
      path,
      `${what}, of at most 128 MiB`,
      stats.isFile() ? "a larger one" : "something that is no file",
    );
  return readFile(path, "utf8");
}
