/** A page of a served folder that speaks to its worker, as the real one does. */
import { readdir, readFile } from "node:fs/promises";
import type { BrowserContext } from "playwright-core";
import { serve } from "../../src/api/serve.ts";
import { drawnImages } from "../../src/export/drawn.ts";
import type { Answer, Request, Squares } from "../../src/web/messages.ts";

const IN_PAGE = new URL("in-page.js", import.meta.url);

export type Of<K extends Answer["kind"]> = Extract<Answer, { kind: K }>;
export interface Answers<K extends Answer["kind"]> {
  readonly all: readonly Answer[];
  readonly last: Of<K>;
}

/** Files of the page's own storage, by name. */
export type Files = Readonly<Record<string, Uint8Array<ArrayBuffer>>>;

export interface Worked {
  /**
   * Asks, or waits alone, and gives the answers up to the first of a kind.
   * @throws Error of an answer "failed" that comes before it
   */
  ask<K extends Answer["kind"]>(request: Request | undefined, until: K): Promise<Answers<K>>;
  stored(): Promise<Files>;
  /** Writes over a file of the page's own storage. */
  store(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Loads the page again, with a worker of its own. */
  load(): Promise<void>;
  /** The page in another tab; closed with this one. */
  twin(): Promise<Worked>;
  /** Addresses of all that page and worker have asked for. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

interface InPage {
  readonly worked: {
    ask(request: Request | undefined, until: string): Promise<Answer[]>;
    stored(): Promise<Files>;
    store(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  };
}

/** Serves `dir`, with `headers` in place of the usual ones, and opens it. */
export async function openWorked(
  context: BrowserContext,
  dir: string,
  headers?: Readonly<Record<string, string>>,
): Promise<Worked> {
  const serving = await serve(dir, await readdir(dir), 0, headers);
  const worked = await inTab(context, serving.url);
  return {
    ...worked,
    async close() {
      await worked.close();
      await serving.close();
    },
  };
}

async function inTab(context: BrowserContext, url: string): Promise<Worked> {
  const page = await context.newPage();
  const requests: string[] = [];
  context.on("request", (request) => requests.push(request.url())); // a worker's too
  const script = await readFile(IN_PAGE, "utf8");
  const load = async () => {
    await page.goto(`${url}manifest.json`); // a document of the page's origin that runs nothing itself
    await page.evaluate(script);
  };
  await load();
  return {
    requests,
    load,
    async ask(request, until) {
      const all = await page.evaluate(
        ([request, until]) => (globalThis as unknown as InPage).worked.ask(request, until),
        [request, until] as const,
      );
      const last = all.at(-1)!;
      if (last.kind !== until) throw new Error((last as Of<"failed">).message);
      return { all, last: last as never };
    },
    stored: () => page.evaluate(() => (globalThis as unknown as InPage).worked.stored()),
    store: (name, bytes) =>
      page.evaluate(([name, bytes]) => (globalThis as unknown as InPage).worked.store(name, bytes), [
        name,
        bytes,
      ] as const),
    twin: () => inTab(context, url),
    close: () => page.close(),
  };
}

/** Drawn images, the same ones each time. */
export const drawnSquares = (count: number, side: number): Squares => ({
  side,
  pixels: drawnImages(count, side).data,
  names: Array.from({ length: count }, (_, i) => `${String(i).padStart(3, "0")}.png`),
});
