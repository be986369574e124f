/** All methods by name. */
import { named } from "../errors.ts";
import type { Method } from "./method.ts";
import { moco } from "./moco.ts";
import { simclr } from "./simclr.ts";

export type { Method } from "./method.ts";

// biome-ignore lint/suspicious/noExplicitAny: each method has a configuration of its own
export const methods: readonly Method<any>[] = [moco, simclr];

// biome-ignore lint/suspicious/noExplicitAny: as above
export const methodNamed = (name: string): Method<any> => named("method", name, methods);
