/** All methods by name. */
import { unknownName } from "../errors.ts";
import type { Method } from "./method.ts";
import { simclr } from "./simclr.ts";

export type { Method } from "./method.ts";

// biome-ignore lint/suspicious/noExplicitAny: each method has a configuration of its own
export const methods: readonly Method<any>[] = [simclr];

// biome-ignore lint/suspicious/noExplicitAny: as above
export function methodNamed(name: string): Method<any> {
  const found = methods.find((m) => m.name === name);
  if (!found) {
    throw unknownName(
      "method",
      name,
      methods.map((m) => m.name),
    );
  }
  return found;
}
