/** Before all tests, once: the program as one file, as users start it, which takes a seventh of a start from its sources. */
import { fileURLToPath } from "node:url";
import { buildCli } from "../../scripts/build-cli.ts";

const FOLDER = fileURLToPath(new URL("../../build/cli", import.meta.url));
/** The built program. */
export const MAIN = `${FOLDER}/main.js`;

/** Called by mocha, also where tests run side by side. */
export const mochaGlobalSetup = (): Promise<void> => buildCli(FOLDER);
