/** Whole text files, up to a size. */
import { readFile, stat } from "node:fs/promises";
import { expected } from "../errors.ts";
import { faultOf } from "../fault.ts";

/**
 * The text of a file, without a mark of its byte order.
 *
 * @param most bytes
 * @throws UserError if it is no file of that size at most, or cannot be read.
 */
export async function readText(path: string, what: string, most: number): Promise<string> {
  const refused = (error: unknown) => expected(path, `${what} that can be read`, faultOf(error));
  const stats = await stat(path).catch((error) => {
    throw refused(error);
  });
  if (!stats.isFile()) throw expected(path, what, "something that is no file");
  if (stats.size > most) {
    const size = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;
    throw expected(path, `${what}, of ${size(most)} at most`, size(stats.size));
  }
  const text = await readFile(path, "utf8").catch((error) => {
    throw refused(error);
  });
  return text.replace(/^\uFEFF/, "");
}
