/** The web page in a browser, with the test's own worker. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { sampleSheet } from "../../scripts/web-sample.ts";

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** By the name that each is asked for with. */
export type Files = ReadonlyMap<string, { readonly contentType: string; readonly body: string | Buffer }>;

/** All that a browser is given. */
export async function pageFiles(): Promise<Files> {
  const { outputFiles } = await build({
    entryPoints: [
      { in: at("src/web/page/main.ts"), out: "page" },
      { in: at("src/web/page/page.css"), out: "page" },
      { in: at("test/web/page/fake-worker.ts"), out: "worker" },
    ],
    ...{ bundle: true, format: "esm", target: "es2022", outdir: "/", write: false, logLevel: "warning" },
  });
  const built = outputFiles.map(({ path, text }) => {
    const contentType = path.endsWith(".css") ? "text/css" : "text/javascript";
    return [path, { contentType, body: text }] as const;
  });
  return new Map<string, { contentType: string; body: string | Buffer }>([
    ...built,
    ["/", { contentType: "text/html", body: await readFile(at("src/web/page/index.html"), "utf8") }],
    ["/sample.png", { contentType: "image/png", body: await sampleSheet() }],
  ]);
}

export interface Opened {
  readonly page: Page;
  /** Paths that were asked for. */
  readonly requests: string[];
  /** Errors, and lines of the console. */
  readonly said: string[];
}

/** Opens the page in a context of its own, with what `FAKE` of the worker is. */
export async function openPage(
  browser: Browser,
  files: Files,
  fake: object = {},
  options: BrowserContextOptions = {},
): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const requests: string[] = [];
  const said: string[] = [];
  await context.route("**/*", (route) => {
    const { pathname } = new URL(route.request().url());
    requests.push(pathname);
    const file = files.get(pathname);
    if (!file) return route.fulfill({ status: 404 });
    const prelude = pathname === "/worker.js" ? `const FAKE = ${JSON.stringify(fake)};\n` : "";
    const body = typeof file.body === "string" ? prelude + file.body : file.body;
    return route.fulfill({ contentType: file.contentType, body });
  });
  const page = await context.newPage();
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  await page.goto("https://page.test/");
  return { page, requests, said };
}
