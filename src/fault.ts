/** What the system says of its faults. */
import { getSystemErrorMap } from "node:util";
import { messageOf } from "./errors.ts";

/** What the system says is wrong with a path, such as "permission denied (EACCES)"; else the error's message. */
export function faultOf(error: unknown): string {
  const { errno, code } = error as NodeJS.ErrnoException;
  const known = errno === undefined ? undefined : getSystemErrorMap().get(errno);
  return known ? `${known[1]} (${code})` : messageOf(error);
}
