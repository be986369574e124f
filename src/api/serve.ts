/** Serves a page's folder on this machine, with the headers that WebAssembly's threads want. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { expected } from "../errors.ts";
import { codeOf } from "../files/atomic.ts";

/** Nothing leaves the page, and nothing comes from elsewhere. */
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; style-src 'self'; " +
  "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Content-Security-Policy": POLICY,
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-cache",
};

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".png": "image/png",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
};
const UNKNOWN = "application/octet-stream";
const HOST = "127.0.0.1";

export interface Serving {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Serves these files of `folder`, and no others, to this machine alone. Port 0 takes a free one.
 * @throws UserError if the port is taken
 */
export async function serve(
  folder: string,
  files: readonly string[],
  port: number,
  headers: Readonly<Record<string, string>> = HEADERS,
): Promise<Serving> {
  const known = new Set(files);
  const server = createServer((request, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (request.method !== "GET" && request.method !== "HEAD") return void refuse(response, 405);
    const [path = "/"] = (request.url ?? "/").split("?"); // as it stands: a name is looked up, never followed
    const name = path === "/" ? "index.html" : path.slice(1);
    if (!known.has(name)) return void refuse(response, 404);
    send(response, join(folder, name), request.method === "HEAD").catch(() => refuse(response, 404));
  });
  await listening(server, port);
  const { port: own } = server.address() as AddressInfo;
  return {
    url: `http://${HOST}:${own}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listening(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => {
      const code = codeOf(error);
      if (code === undefined) return reject(error);
      const found = code === "EADDRINUSE" ? "one that is taken" : code;
      reject(expected(`--serve ${port}`, "a free port", found, "give another one"));
    });
    server.listen(port, HOST, resolve);
  });
}

async function send(response: ServerResponse, path: string, headOnly: boolean): Promise<void> {
  const { size } = await stat(path);
  response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? UNKNOWN, "Content-Length": size });
  if (headOnly) return void response.end();
  createReadStream(path)
    .on("error", () => response.destroy())
    .pipe(response);
}

function refuse(response: ServerResponse, status: number): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { "Content-Type": "text/plain" }).end(`${status}\n`);
}
