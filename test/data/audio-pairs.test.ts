import { join } from "node:path";
import { expect } from "chai";
import { findAudioPairs } from "../../src/data/audio-pairs.ts";
import { fingerprint } from "../../src/data/sources.ts";
import { failure, temporaryFolder } from "./folder.ts";

describe("data/audio-pairs", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const write = (...names: readonly string[]) => Promise.all(names.map((name) => folder.write(name, "")));
  const list = (text: string) => folder.write("list.csv", text);
  const failing = async (text: string) => failure(findAudioPairs(at("all"), { list: await list(text) }));

  before(async () => {
    await write("all/b/2.png", "all/b/2.WAV", "all/a/1.jpg", "all/a/1.wav", "all/a/1.mp3", "all/a/alone.png");
    await write("all/a/other.flac", "all/c,d.png", "all/c,d.ogg", "pictures/x.png", "pictures/y.wav");
  });

  it("pairs files of one name in a folder, sorted; of several audio files the one that needs no ffmpeg", async () => {
    const { files, audio, notes } = await findAudioPairs(at("all"));
    expect(files).to.deep.equal(["a/1.jpg", "b/2.png", "c,d.png"]);
    expect(audio).to.deep.equal(["a/1.wav", "b/2.WAV", "c,d.ogg"]);
    expect(notes).to.deep.equal([
      `${at("all")}: left out pictures without an audio file of the same name: 1`,
    ]);
  });

  it("takes the pairs of a list, in which a picture or a sound may stand several times", async () => {
    const text =
      '\uFEFFpicture,sound\r\nb/2.png, b/2.WAV\r\na/1.jpg,a/1.wav\n\n"c,d.png",a/1.wav\nb/2.png,a/1.mp3\n';
    const { files, audio } = await findAudioPairs(at("all"), { list: await list(text) });
    expect(files).to.deep.equal(["a/1.jpg", "b/2.png", "b/2.png", "c,d.png"]);
    expect(audio).to.deep.equal(["a/1.wav", "a/1.mp3", "b/2.WAV", "a/1.wav"]);
  });

  it("samples pairs, the same ones for a seed, and tells other audio by its fingerprint", async () => {
    const some = await findAudioPairs(at("all"), { limit: 2, seed: 3 });
    expect(some.files).to.have.length(2);
    expect(some.audio).to.have.length(2);
    expect(await findAudioPairs(at("all"), { limit: 2, seed: 3 })).to.deep.equal(some);
    const all = await findAudioPairs(at("all"));
    expect(fingerprint(all)).not.to.equal(fingerprint({ ...all, audio: [...all.audio!].reverse() }));
    expect(fingerprint(all)).not.to.equal(fingerprint({ files: all.files }));
  });

  it("refuses in one line what is no pair", async () => {
    const where = at("list.csv");
    for (const [text, wanted] of [
      ["", `${where}:1: expected picture,sound, found ""`],
      ["a/1.jpg,a/1.wav\n", `${where}:1: expected picture,sound, found "a/1.jpg,a/1.wav"`],
      ["picture,sound\n", `${where}: expected a pair or more, found none`],
      [
        "picture,sound\na/1.jpg\n",
        `${where}:2: expected two paths with a comma between them, found "a/1.jpg"`,
      ],
      [
        "picture,sound\na/1.jpg,\n",
        `${where}:2: expected two paths with a comma between them, found "a/1.jpg,"`,
      ],
      [
        'picture,sound\n"a/1.jpg,x\n',
        `${where}:2: expected values with commas between them, found "\\"a/1.jpg,x"`,
      ],
      [
        "picture,sound\na/1.jpg,a/none.wav",
        `${where}:2: expected a file of ${at("all")}, found none at "a/none.wav"`,
      ],
      ["picture,sound\na,a/1.wav", `${where}:2: expected a file of ${at("all")}, found none at "a"`],
    ] as const)
      expect(await failing(text)).to.equal(wanted);
    expect(await failure(findAudioPairs(at("all"), { list: at("no.csv") }))).to.match(
      /no\.csv: expected a CSV of pictures and sounds, found no such file or directory \(ENOENT\)/,
    );
    expect(await failure(findAudioPairs(at("pictures")))).to.equal(
      `${at("pictures")}: expected audio files with the names of pictures (a.jpg, a.wav), found 1 pictures and 1 audio files of other names; or give --audio FILE`,
    );
  });
});
