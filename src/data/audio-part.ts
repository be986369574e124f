/** Parts of a clip's audio, of one length. */

/**
 * Writes a part of the audio into `part`: from `start` on, which may lie before the beginning; zeros where there is none.
 * @param factor that each sample is multiplied by; 1 by default
 */
export function takePart(audio: Float32Array, start: number, part: Float32Array, factor = 1): void {
  for (let i = 0; i < part.length; i++) part[i] = factor * (audio[start + i] ?? 0);
}

/** The middle of the audio, or the whole in the middle of silence. */
export function middlePart(audio: Float32Array, samples: number): Float32Array {
  const part = new Float32Array(samples);
  takePart(audio, Math.floor((audio.length - samples) / 2), part);
  return part;
}
