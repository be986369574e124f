import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";

/** A machine, as the search for CUDA and for GPUs sees it; tests give folders in its place. */
export interface Host {
  /** What goes before "/usr", "/dev" and the like. */
  readonly root: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** Such as "linux x64". */
  readonly platform: string;
  /** The folder of onnxruntime-node's libonnxruntime.so.1, where provider libraries belong, and its version. */
  readonly runtime: string;
  readonly version: string;
  /** What `ldconfig -p` lists: where the dynamic linker finds libraries. */
  readonly ldconfig: () => string;
}

export function thisHost(): Host {
  const require = createRequire(import.meta.url);
  const package_ = require.resolve("onnxruntime-node/package.json");
  const { platform, arch } = process;
  return {
    root: "",
    env: process.env,
    home: homedir(),
    platform: `${platform} ${arch}`,
    runtime: join(dirname(package_), "bin/napi-v6", platform, arch),
    version: (require(package_) as { version: string }).version,
    ldconfig: () => {
      try {
        return execFileSync("/sbin/ldconfig", ["-p"], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "ignore"],
        });
      } catch {
        return ""; // systems without it
      }
    },
  };
}

/** Where commands that `doctor` names put libraries; in them "~" stands for the home folder. */
export const OWN_FOLDER = ".local/share/ort-pretrain";

export interface Library {
  readonly path: string;
  /** Whether the dynamic linker finds it by itself. */
  readonly linked: boolean;
}

/**
 * Looks for libraries by name: in the folder given, in LD_LIBRARY_PATH, in the Python or Conda environment that is
 * active, where `doctor` has them put, in CUDA toolkits and other Pythons of the system, and where the dynamic linker
 * looks. No Python is started: what it runs at its start is not ours to run.
 */
export function finder(host: Host, given?: string): (name: string) => Library | undefined {
  const folders = foldersOf(host, given);
  let listed: ReadonlyMap<string, string> | undefined;
  return (name) => {
    const found = folders
      .map(({ path, linked }) => ({ path: join(path, name), linked }))
      .find(({ path }) => existsSync(path));
    if (found) return found;
    listed ??= new Map(
      [...host.ldconfig().matchAll(/^\s*(\S+) \([^)]*(?:x86-64|AArch64)[^)]*\) => (\S+)$/gm)].map(
        ([, name, path]) => [name!, path!],
      ),
    );
    const path = listed.get(name);
    return path === undefined ? undefined : { path, linked: true };
  };
}

function foldersOf({ root, env, home }: Host, given?: string): Library[] {
  const paths = (variable: string) => (env[variable] ?? "").split(delimiter).filter((path) => path !== "");
  const active = [env.VIRTUAL_ENV, env.CONDA_PREFIX].filter((prefix) => prefix !== undefined);
  const toolkits = entriesOf(`${root}/usr/local`)
    .filter((name) => name.startsWith("cuda"))
    .sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
  const pythons = paths("PATH")
    .filter((path) => existsSync(join(path, "python3")))
    .map(dirname);
  const others = [...pythons, join(home, ".local"), `${root}/usr/local`, `${root}/usr`, `${root}/opt/conda`];
  const own = join(home, OWN_FOLDER);
  const before =
    given === undefined ? [] : [given, join(given, "lib64"), ...wheelsIn(given), ...ofPrefix(given)];
  const after = [
    ...active.flatMap(ofPrefix),
    ...entriesOf(own).flatMap((name) => wheelsIn(join(own, name))),
    ...toolkits.map((name) => `${root}/usr/local/${name}/lib64`),
    ...others.flatMap((prefix) => sitesOf(prefix).flatMap(wheelsIn)),
    // Of the driver, in containers and in the Linux of Windows.
    `${root}/usr/local/nvidia/lib64`,
    `${root}/usr/lib/wsl/lib`,
  ];
  const apart = (path: string) => ({ path, linked: false });
  return [
    ...before.map(apart),
    ...paths("LD_LIBRARY_PATH").map((path) => ({ path, linked: true })),
    ...after.map(apart),
  ];
}

/** Of an environment of Python, or of Conda, which has packages with libraries as well. */
const ofPrefix = (prefix: string) => [...sitesOf(prefix).flatMap(wheelsIn), join(prefix, "lib")];

const sitesOf = (prefix: string) =>
  entriesOf(join(prefix, "lib"))
    .filter((name) => name.startsWith("python3"))
    .flatMap((name) => ["site-packages", "dist-packages"].map((site) => join(prefix, "lib", name, site)));

/** PyPI's nvidia-* packages. */
const wheelsIn = (site: string) =>
  entriesOf(join(site, "nvidia")).map((name) => join(site, "nvidia", name, "lib"));

export function entriesOf(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
