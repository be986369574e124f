import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { UserError } from "../../src/errors.ts";
import { LOCK, lockFolder } from "../../src/files/lock.ts";
import { failure } from "../data/folder.ts";

describe("files/lock", () => {
  let parent: string;
  let dir: string;
  let path: string;
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "lock-"));
    dir = join(parent, "run");
    path = join(dir, LOCK);
  });
  afterEach(() => rm(parent, { recursive: true }));

  /** A lock as one is written here, changed, and left by its owner. */
  async function abandoned(change: object): Promise<void> {
    const lock = await lockFolder(dir);
    const owner = JSON.parse(await readFile(path, "utf8"));
    await writeFile(join(dir, "kept"), "");
    lock.release();
    await writeFile(path, JSON.stringify({ ...owner, id: "other", ...change }));
  }
  const quick = { beat: 20, patience: 400 };
  /** Ids of processes are asked about where their start is known too. */
  const onLinux = process.platform === "linux" ? it : it.skip;

  it("lets one in, tells the next who it is, and goes with its owner", async () => {
    const lock = await lockFolder(dir);
    const said = await failure(lockFolder(dir));
    expect(said).to.contain(`${dir}: expected a folder that no other run writes to, found process `);
    expect(said).to.contain(`process ${process.pid} on ${hostname()} (since ${new Date().getUTCFullYear()}-`);
    expect(said).to.match(/; let it end, stop it or give another --out$/);
    expect(await readdir(dir)).to.deep.equal([LOCK]);
    lock.release();
    expect(existsSync(dir), "an empty folder that was made for it").to.equal(false);
    const again = await lockFolder(dir);
    await writeFile(join(dir, "kept"), "");
    again.release();
    expect(await readdir(dir)).to.deep.equal(["kept"]);
  });

  onLinux("is taken over at once from a process that has ended, though its id is another's now", async () => {
    for (const change of [{ pid: 2 ** 30 }, { started: "1" }]) {
      await abandoned(change);
      const lock = await lockFolder(dir, { patience: Number.POSITIVE_INFINITY });
      expect(JSON.parse(await readFile(path, "utf8"))).to.include({ pid: process.pid });
      lock.release();
    }
  });

  it("is taken over from where processes cannot be asked about once it gives no sign of life", async () => {
    const notes: string[] = [];
    for (const content of [undefined, "cut o"]) {
      await abandoned({ place: "another container", pid: 1, host: "elsewhere" });
      if (content !== undefined) await writeFile(path, content);
      const lock = await lockFolder(dir, { ...quick, note: (line) => notes.push(line) });
      lock.check();
      lock.release();
    }
    expect(notes[0]).to.match(/run\.lock: waiting up to 1 s for a sign of life from process 1 on elsewhere/);
    expect(notes[1]).to.match(/from a process that it does not name/);
    expect(notes).to.have.length(2);
  });

  it("and not from one that lives there", async () => {
    const lock = await lockFolder(dir, { beat: 20 });
    const owner = JSON.parse(await readFile(path, "utf8"));
    await writeFile(path, JSON.stringify({ ...owner, place: "another container", host: "elsewhere" }));
    const next = lockFolder(dir, { beat: 100, patience: 60_000 });
    expect(await failure(next)).to.match(/no other run writes to, found process \d+ on elsewhere/);
    lock.release();
  });

  it("goes to one of many that start at once, be it new or abandoned", async () => {
    for (const begin of [async () => {}, () => abandoned({ place: "gone" })]) {
      await begin();
      const starters = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(dir, quick)));
      const winners = starters.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
      expect(winners).to.have.length(1);
      for (const end of starters) {
        if (end.status === "rejected") expect(end.reason).to.be.instanceOf(UserError);
      }
      winners[0]!.release();
    }
  });

  it("is put back where it was cleared away, and given up where another has the folder", async () => {
    const lock = await lockFolder(dir);
    const text = await readFile(path, "utf8");
    await rm(path);
    lock.check();
    expect(await readFile(path, "utf8")).to.equal(text);
    await writeFile(path, text.replace(/"id":"\w+"/, '"id":"another"'));
    expect(() => lock.check()).to.throw(UserError, /run: process \d+ on .* has taken the folder meanwhile/);
    lock.release();
    expect(existsSync(path), "the other's lock").to.equal(true);
  });

  it("says where none can be had", async () => {
    await writeFile(join(parent, "file"), "");
    expect(await failure(lockFolder(join(parent, "file")))).to.match(/file: expected a folder, found a file/);
  });
});
