/** A headless Chromium, where there is one. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const PLACES = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** With a profile of its own, and more flags; undefined, and a line that says so, where no Chromium is found. */
export async function openBrowser(flags: readonly string[] = []): Promise<Browser | undefined> {
  const executablePath = PLACES.find((path) => path !== undefined && existsSync(path));
  if (executablePath !== undefined) return chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
  console.warn("\n*** TESTS IN A BROWSER ARE SKIPPED: no Chromium is found; CHROMIUM=path names one ***\n");
  return undefined;
}
