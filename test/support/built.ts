/** Before all tests, once: the program as one file, as users start it, which takes a seventh of a start from its sources. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { buildCli } from "../../scripts/build-cli.ts";
import { buildWeb } from "../../scripts/build-web.ts";

const FOLDER = fileURLToPath(new URL("../../build/cli", import.meta.url));
/** The built program. */
export const MAIN = `${FOLDER}/main.js`;
/** What a page is made of, where that program looks for it. */
export const WEB = fileURLToPath(new URL("../../build/web", import.meta.url));

/** Called by mocha, also where tests run side by side. */
export const mochaGlobalSetup = async (): Promise<void> => {
  const sample = await readFile(`${WEB}/sample.png`).catch(() => undefined); // which takes seconds to draw
  await Promise.all([buildCli(FOLDER), buildWeb(WEB, sample)]);
};
