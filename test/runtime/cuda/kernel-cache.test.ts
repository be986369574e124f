import { readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { kernelFolder, keyOf, openKernelCache } from "../../../src/runtime/cuda/kernel-cache.ts";
import { temporaryFolder } from "../../data/folder.ts";

describe("runtime/cuda/kernel-cache", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const kernel = (size: number, fill = 1) => Buffer.alloc(size, fill);

  it("is in the user's folder for caches, unless told", () => {
    const home = "/home/a";
    const folderOf = (env: Record<string, string>) => kernelFolder({ env, home });
    expect(folderOf({})).to.equal("/home/a/.cache/ort-pretrain/kernels");
    expect(folderOf({ XDG_CACHE_HOME: "/caches" })).to.equal("/caches/ort-pretrain/kernels");
    expect(folderOf({ XDG_CACHE_HOME: "caches" })).to.equal("/home/a/.cache/ort-pretrain/kernels");
    expect(folderOf({ XDG_CACHE_HOME: "/caches", ORT_PRETRAIN_CACHE: "/own" })).to.equal("/own/kernels");
  });

  it("has a key of its own for each source, version and option", () => {
    const keys = [
      keyOf("source", "13.0", "sm_90"),
      keyOf("source", "13.0", "sm_100"),
      keyOf("source", "13.1", "sm_90"),
      keyOf("source1", "3.0", "sm_90"),
      keyOf("source", "13.0", "sm_90", "-x"),
    ];
    expect(new Set(keys)).to.have.length(keys.length);
    expect(keyOf("source", "13.0", "sm_90")).to.equal(keys[0]);
  });

  it("gives what it kept, also to another run, and leaves nothing else behind", async () => {
    const [a, b] = [keyOf("a"), keyOf("b")];
    const path = at("deep/kernels");
    await openKernelCache(path).keep(
      new Map([
        [a, kernel(10)],
        [b, kernel(0)],
      ]),
    );
    const cache = openKernelCache(path);
    expect(Buffer.from((await cache.read(a))!)).to.deep.equal(kernel(10));
    expect(await cache.read(b)).to.have.length(0);
    expect(await cache.read(keyOf("c"))).to.equal(undefined);
    expect((await readdir(path)).sort()).to.deep.equal([`${a}.cubin`, `${b}.cubin`].sort());
  });

  it("does not give what is cut off, changed or foreign", async () => {
    const key = keyOf("a");
    const cache = openKernelCache(at("damaged"));
    const file = at(`damaged/${key}.cubin`);
    await cache.keep(new Map([[key, kernel(100)]]));
    const whole = await readFile(file);
    const changed = Buffer.from(whole);
    changed[60]! ^= 1;
    for (const bytes of [
      whole.subarray(0, 90),
      whole.subarray(0, 10),
      Buffer.alloc(0),
      changed,
      kernel(200),
    ]) {
      await writeFile(file, bytes);
      expect(await cache.read(key)).to.equal(undefined);
    }
    await cache.keep(new Map([[key, kernel(100)]]));
    expect(await cache.read(key)).to.have.length(100);
  });

  it("drops the oldest of its own files above its bound", async () => {
    const path = at("bounded");
    const size = 32 + 100;
    const cache = openKernelCache(path, 3 * size);
    const keys = ["a", "b", "c", "d"].map((name) => keyOf(name));
    await folder.write("bounded/notes.txt", "x".repeat(10 * size));
    for (const [i, key] of keys.slice(0, 3).entries()) {
      await cache.keep(new Map([[key, kernel(100)]]));
      await utimes(join(path, `${key}.cubin`), 0, [2000, 1000, 3000][i]!); // b is the oldest
    }
    await cache.keep(new Map([[keys[3]!, kernel(100)]]));
    const kept = await Promise.all(keys.map(async (key) => (await cache.read(key)) !== undefined));
    expect(kept).to.deep.equal([true, false, true, true]);
    expect((await stat(join(path, "notes.txt"))).size).to.equal(10 * size);
  });

  it("does without a folder that cannot be written to", async () => {
    const cache = openKernelCache(join(await folder.write("file", ""), "kernels"));
    await cache.keep(new Map([[keyOf("a"), kernel(1)]]));
    expect(await cache.read(keyOf("a"))).to.equal(undefined);
  });
});
