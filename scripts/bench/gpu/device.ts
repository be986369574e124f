/** What nvidia-smi says. */
import { execFileSync } from "node:child_process";

/** The values of the first GPU; undefined where there is no such program, or it does not answer. */
export function askDevice(...names: readonly string[]): readonly string[] | undefined {
  try {
    const asked = [`--query-gpu=${names.join(",")}`, "--format=csv,noheader,nounits"];
    const text = execFileSync("nvidia-smi", asked, {
      encoding: "utf8",
      timeout: 10_000,
      stdio: ["ignore", "pipe", "ignore"],
    });
    return text
      .split("\n")[0]!
      .split(",")
      .map((value) => value.trim());
  } catch {
    return undefined;
  }
}

/** Of the whole device, MiB. */
export function memoryUsed(): number | undefined {
  const value = Number(askDevice("memory.used")?.[0]);
  return Number.isFinite(value) ? value : undefined;
}
