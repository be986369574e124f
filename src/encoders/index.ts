/** All encoders by name. */
import { unknownName } from "../errors.ts";
import type { Encoder } from "./encoder.ts";
import { resnets } from "./resnet.ts";
import { vits } from "./vit.ts";

export type { Encoder } from "./encoder.ts";

export const encoders: readonly Encoder[] = [...resnets, ...vits];

export function encoderNamed(name: string): Encoder {
  const found = encoders.find((e) => e.name === name);
  if (!found) {
    throw unknownName(
      "encoder",
      name,
      encoders.map((e) => e.name),
    );
  }
  return found;
}
