/** All encoders by name. */
import { named } from "../errors.ts";
import { type AudioEncoder, audioEncoders } from "./audio.ts";
import type { Encoder } from "./encoder.ts";
import { resnets } from "./resnet.ts";
import { vits } from "./vit.ts";

export type { Encoder, Stage } from "./encoder.ts";

export const encoders: readonly Encoder[] = [...resnets, ...vits];

export const encoderNamed = (name: string): Encoder => named("encoder", name, encoders);

export const audioEncoderNamed = (name: string): AudioEncoder => named("audio encoder", name, audioEncoders);
