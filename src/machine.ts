/** What this process may use of the machine: a container's limits where there are any, else the host's. */
import { readFileSync } from "node:fs";
import { arch, availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";

const MOUNT = "/sys/fs/cgroup";

/** Cores that this process may keep busy, at least 1. */
export const cores = (): number => Math.min(availableParallelism(), coreLimit() ?? Infinity);

/** Memory that this process may use, bytes. */
export function memoryBytes(): number {
  const limit = process.constrainedMemory(); // 0 or beyond all memory where there is none
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** The processor's name, with its family and model on Linux: in a virtual machine the name alone may hide them. */
export function processor(info = "/proc/cpuinfo"): string {
  const text = readText(info);
  const of = (key: string) => new RegExp(`^${key}\\s*:\\s*(.*)$`, "m").exec(text)?.[1];
  const [family, model] = [of("cpu family"), of("model")];
  const numbers = family && model ? `, family ${family}, model ${model}` : "";
  return `${cpus()[0]?.model.trim() ?? arch()}${numbers}`;
}

/**
 * Whole cores of time that a control group of Linux allows, where it allows fewer than there are: Node counts the cores
 * that a process may be placed on, which a container's quota (`docker run --cpus 2`) does not change.
 * @param mount where the groups lie, and `groups` the list of those of this process; for tests.
 */
export function coreLimit(mount = MOUNT, groups = "/proc/self/cgroup"): number | undefined {
  const quotas = groupsOf(readText(groups)).flatMap(({ controllers, path }) =>
    ancestors(path).map((group) =>
      controllers === ""
        ? quotaV2(readText(join(mount, group, "cpu.max")))
        : quotaV1(
            readText(join(mount, controllers, group, "cpu.cfs_quota_us")),
            readText(join(mount, controllers, group, "cpu.cfs_period_us")),
          ),
    ),
  );
  const least = Math.min(...quotas.filter((quota) => quota !== undefined), Infinity);
  return least < availableParallelism() ? Math.max(1, Math.floor(least)) : undefined;
}

/** Lines such as "0::/user.slice" (version 2) or "4:cpu,cpuacct:/docker/1f" (version 1), those of cpu alone. */
function groupsOf(text: string): { controllers: string; path: string }[] {
  return text.split("\n").flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    const counts = controllers === "" || controllers?.split(",").includes("cpu");
    return counts && path !== undefined ? [{ controllers: controllers!, path }] : [];
  });
}

/** A group and those that it lies in, up to the mount's root: inside a container the host's path may not be visible. */
function ancestors(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== "..");
  return Array.from({ length: parts.length + 1 }, (_, n) => parts.slice(0, n).join("/"));
}

/** "200000 100000": microseconds of work in a period; "max" for no limit. */
function quotaV2(text: string): number | undefined {
  const [quota, period] = text.split(/\s+/).map(Number);
  return quota! > 0 && period! > 0 ? quota! / period! : undefined;
}

/** -1 for no limit. */
const quotaV1 = (quota: string, period: string) => quotaV2(`${quota.trim()} ${period.trim()}`);

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
