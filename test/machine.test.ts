import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { coreLimit, cores, memoryBytes } from "../src/machine.ts";
import { temporaryFolder } from "./data/folder.ts";

describe("machine", () => {
  const folder = temporaryFolder();
  /** The limit that these files of a mounted hierarchy give. */
  async function limit(name: string, groups: string, files: Readonly<Record<string, string>>) {
    await folder.write(`${name}/groups`, groups);
    for (const [path, text] of Object.entries(files)) await folder.write(`${name}/mount/${path}`, text);
    return coreLimit(join(folder.path, name, "mount"), join(folder.path, name, "groups"));
  }

  it("takes a container's share of the cores, of either version of control groups, at least one", async () => {
    expect(await limit("v2", "0::/\n", { "cpu.max": "50000 100000\n" })).to.equal(1);
    const v1 = { "cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n" };
    const own = availableParallelism() > 1 ? 1 : undefined;
    expect(await limit("v1", "4:memory:/a\n1:cpu:/\n", v1)).to.equal(own);
  });

  it("takes the least share of a group and those that it lies in", async () => {
    const files = { "a/b/cpu.max": "max 100000\n", "a/cpu.max": "90000 100000\n" };
    expect(await limit("nested", "0::/a/b\n", files)).to.equal(1);
  });

  it("has no limit where none is set, none is found or all cores are allowed", async () => {
    expect(await limit("max", "0::/\n", { "cpu.max": "max 100000\n" })).to.equal(undefined);
    const v1 = { "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n" };
    expect(await limit("unlimited", "1:cpu:/\n", v1)).to.equal(undefined);
    expect(await limit("many", "0::/\n", { "cpu.max": "100000000 100000\n" })).to.equal(undefined);
    expect(await limit("damaged", "nonsense\n0::/../..\n", { "cpu.max": "?" })).to.equal(undefined);
    expect(coreLimit("/nowhere", "/nowhere")).to.equal(undefined);
  });

  it("counts a core or more, and no more memory than there is", () => {
    expect(cores()).to.be.within(1, availableParallelism());
    expect(memoryBytes()).to.be.within(1, totalmem());
  });
});
