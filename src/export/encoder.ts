/** Writes encoder.onnx, or audio-encoder.onnx: frozen, compared with the training-time encoder, and only then put in place. */
import { expected } from "../errors.ts";
import { writeFileAtomic } from "../files/atomic.ts";
import type { TensorData } from "../files/safetensors.ts";
import { freezeEncoder } from "./freeze.ts";
import { type AudioMetadata, audioMetadataTexts, type EncoderMetadata, metadataTexts } from "./metadata.ts";
import { type Images, type Sounds, verifyFrozen } from "./verify.ts";

export interface EncoderParts {
  /** The artifact's encode.onnx. */
  readonly encode: Uint8Array;
  /** What is frozen, where it has other outputs than `encode`. */
  readonly staged?: Uint8Array | undefined;
  readonly state: ReadonlyMap<string, TensorData>;
  readonly metadata: EncoderMetadata | AudioMetadata;
  /** Outputs that are compared besides the features and an embedding, see `VerifyOptions`. @default none */
  readonly more?: readonly string[] | undefined;
  /** See `VerifyOptions`. */
  readonly shortest?: Readonly<Record<string, number>> | undefined;
  /** What the two encoders are compared on; of audio, sounds. */
  readonly images: Images | Sounds;
  /** Of the CPU provider. @default one for each core */
  readonly threads?: number | undefined;
}

export interface WrittenEncoder {
  /** Size of the file. */
  readonly bytes: number;
  /** Greatest relative distance of a feature vector from that of the training-time encoder. */
  readonly maxRelative: number;
}

/** @throws UserError, with what `path` held before still there, if the features differ or it cannot be written. */
export async function writeEncoder(path: string, parts: EncoderParts): Promise<WrittenEncoder> {
  const { frozen, maxRelative } = await frozenEncoder(path, parts);
  await writeFileAtomic(path, frozen);
  return { bytes: frozen.length, maxRelative };
}

/** The bytes of encoder.onnx, compared. `where` names it in errors. @throws UserError if the features differ. */
export async function frozenEncoder(
  where: string,
  { encode, staged = encode, state, metadata, ...comparison }: EncoderParts,
): Promise<{ frozen: Uint8Array } & Pick<WrittenEncoder, "maxRelative">> {
  const frozen =
    "rate" in metadata
      ? freezeEncoder(staged, state, audioMetadataTexts(metadata), "audio")
      : freezeEncoder(staged, state, metadataTexts(metadata));
  const { maxRelative, d } = await verifyFrozen({ ...comparison, encode, state, frozen, where });
  if (d !== metadata.features) throw expected("encode.onnx", `${metadata.features} features`, `${d}`);
  return { frozen, maxRelative };
}
