import type { Host } from "../../../src/runtime/cuda/host.ts";

/** A Linux machine without anything but what lies under `root`. */
export const hostOf = (root: string, more: Partial<Host> = {}): Host => ({
  root,
  env: {},
  home: `${root}/home`,
  platform: "linux x64",
  runtime: `${root}/runtime`,
  version: "1.30.0",
  ldconfig: () => "",
  ...more,
});
