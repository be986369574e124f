import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { UserError } from "../../src/errors.ts";
import {
  checkWritable,
  makeFolder,
  readWhole,
  TEMPORARY,
  writeFailed,
  writeFileAtomic,
} from "../../src/files/atomic.ts";

const faultOf = async (work: Promise<unknown>): Promise<UserError> => {
  const error = await work.then(
    () => expect.fail("nothing was thrown"),
    (error: unknown) => error,
  );
  expect(error).to.be.instanceOf(UserError);
  return error as UserError;
};
const systemError = (code: string) => Object.assign(new Error(code), { code });

describe("files/atomic", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "atomic-"));
  });
  afterEach(() => rm(dir, { recursive: true }));

  it("writes and replaces a file and leaves nothing beside it", async () => {
    const path = join(dir, "a.txt");
    await writeFileAtomic(path, "old");
    await writeFileAtomic(path, new Uint8Array([110, 101, 119]));
    expect(await readFile(path, "utf8")).to.equal("new");
    expect(await readdir(dir)).to.deep.equal(["a.txt"]);
  });

  it("leaves what was there when the rename fails", async () => {
    const path = join(dir, "taken");
    await mkdir(path);
    await writeFile(join(path, "inner"), "kept");
    const fault = await faultOf(writeFileAtomic(path, "data"));
    expect(fault.message).to.match(
      /taken: expected nothing or what an earlier run wrote, found something else/,
    );
    expect(await readdir(dir)).to.deep.equal(["taken"]);
    expect(await readFile(join(path, "inner"), "utf8")).to.equal("kept");
  });

  it("names the folder that does not exist", async () => {
    const fault = await faultOf(writeFileAtomic(join(dir, "none", "a.txt"), "data"));
    expect(fault.message).to.equal(
      `${join(dir, "none")}: expected a folder to write to, found none; make it first`,
    );
    await writeFile(join(dir, "file"), "");
    expect((await faultOf(writeFileAtomic(join(dir, "file", "a"), "data"))).message).to.match(
      /expected a folder/,
    );
  });

  it("makes a folder and those that it lies in", async () => {
    const path = join(dir, "x/y/z");
    expect(await makeFolder(path)).to.equal(true);
    expect(await makeFolder(path)).to.equal(false);
    expect((await stat(path)).isDirectory()).to.equal(true);
    await writeFile(join(dir, "file"), "");
    for (const taken of ["file", "file/x"]) {
      const { message } = await faultOf(makeFolder(join(dir, taken)));
      expect(message).to.equal(`${join(dir, taken)}: expected a folder, found a file; choose another folder`);
    }
  });

  it("tells why a folder cannot be made, whatever is missing above it", async () => {
    for (const [code, says] of [
      ["EROFS", /r: read-only file system, 45 MB could not be written/],
      ["ENOSPC", /r: disk full, 45 MB/],
      ["EIO", /r: could not be written \(EIO\)/],
    ] as const) {
      // As the system does it: what is missing comes first.
      const make = async (path: string) => {
        throw systemError(path.endsWith("/p") ? code : "ENOENT");
      };
      expect((await faultOf(makeFolder(join(dir, "p/q/r"), 45e6, make))).message).to.match(says);
    }
  });

  it("says in one line why a write failed", () => {
    const failed = (code: string, bytes?: number, retry?: string) => {
      const error = writeFailed("runs/a/checkpoints", systemError(code), bytes, retry) as UserError;
      expect(error).to.be.instanceOf(UserError);
      expect(error.exitCode).to.equal(2);
      return error.message;
    };
    expect(failed("ENOSPC", 45e6, "go on with --resume")).to.equal(
      "runs/a/checkpoints: disk full, 45 MB could not be written; free some space and go on with --resume",
    );
    expect(failed("EDQUOT")).to.equal("runs/a/checkpoints: disk full; free some space and try again");
    expect(failed("EACCES", 300)).to.match(/no permission to write, 300 bytes could not be written; /);
    expect(failed("EROFS", 1234)).to.match(/read-only file system, 1.2 kB could not be written; /);
    expect(failed("EIO", 2.5e9)).to.match(/could not be written \(EIO\), 2.5 GB/);
  });

  it("passes on what is no fault of the system", () => {
    for (const error of [new TypeError("bug"), systemError("ERR_INVALID_ARG_TYPE"), new UserError("known")]) {
      expect(writeFailed("a", error)).to.equal(error);
    }
  });

  it("reads a file up to a bound", async () => {
    const path = join(dir, "a");
    await writeFile(path, "12345");
    expect([...(await readWhole(path, 5, "a text"))]).to.deep.equal([49, 50, 51, 52, 53]);
    const message = async (path: string, max = 4) => (await faultOf(readWhole(path, max, "a text"))).message;
    expect(await message(path)).to.equal(`${path}: expected a text of at most 4 bytes, found 5 bytes`);
    expect(await message(join(dir, "b"))).to.match(/b: expected a text, found no such file/);
    expect(await message(dir)).to.match(/expected a text, found something that is not a file/);
  });

  it("recognises its temporary files", () => {
    expect(TEMPORARY.test("a.0123456789ab.tmp")).to.equal(true);
    expect(TEMPORARY.test("a.tmp")).to.equal(false);
  });

  it("finds out beforehand whether a file can be written, and leaves nothing", async () => {
    const path = join(dir, "a.txt");
    await checkWritable(path, 10);
    await writeFile(path, "kept");
    await checkWritable(path, 10);
    expect(await readFile(path, "utf8")).to.equal("kept");
    expect(await readdir(dir)).to.deep.equal(["a.txt"]);
    expect((await faultOf(checkWritable(path, 1e18))).message).to.match(
      new RegExp(
        `^${dir}: disk full, 1000000000 GB could not be written into the .* that are free; free some`,
      ),
    );
    expect((await faultOf(checkWritable(dir))).message).to.match(
      /expected a file or none, found something else/,
    );
    expect((await faultOf(checkWritable(join(dir, "no/a.txt")))).message).to.match(
      /no: expected a folder to write to, found none; make it first/,
    );
    expect((await faultOf(checkWritable(join(path, "a.txt")))).message).to.match(
      /expected a folder, found a file/,
    );
  });
});
