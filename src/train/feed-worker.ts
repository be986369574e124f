/** The thread of `openFeedBeside`: it opens a feed, and sends a batch for each time that it is asked, in order. */
import { parentPort, workerData } from "node:worker_threads";
import type { Sources } from "../data/sources.ts";
import { UserError } from "../errors.ts";
import { type Fed, type FeedOptions, openFeed } from "./feed.ts";

/** With which the thread is started. */
export interface Given {
  readonly sources: Sources;
  readonly options: Omit<FeedOptions, "warn">;
}

export type Asked = "next" | "close";

/** A UserError loses its class on the way. */
export type Fault = { readonly message: string; readonly exitCode: number } | { readonly bug: unknown };

/** First warnings, and whether the feed is open; then an answer to each "next", and warnings between them. */
export type Said =
  | { readonly warning: string }
  | { readonly stepsPerEpoch: number }
  | { readonly fed: Fed }
  | { readonly fault: Fault };

const port = parentPort!;
const say = (said: Said, moved: ArrayBuffer[] = []) => port.postMessage(said, moved);
const sayFault = (error: unknown) =>
  say({
    fault: error instanceof UserError ? { message: error.message, exitCode: error.exitCode } : { bug: error },
  });

try {
  const { sources, options } = workerData as Given;
  const feed = openFeed(sources, { ...options, warn: (warning) => say({ warning }) });
  let said = Promise.resolve();
  port.on("message", async (asked: Asked) => {
    if (asked === "close") {
      await feed.close();
      port.close(); // which ends the thread
      return;
    }
    const coming = feed.next();
    coming.catch(() => {}); // a fault is said in its turn
    said = said.then(() => coming).then((fed) => say({ fed }, buffersOf(fed)), sayFault);
  });
  say({ stepsPerEpoch: feed.stepsPerEpoch });
} catch (error) {
  sayFault(error);
}

/** They change hands rather than be copied: nothing else lies in them. */
function buffersOf({ images, views, permutations, audio, detection }: Fed): ArrayBuffer[] {
  const targets = detection ? [detection.classes, detection.distances] : [];
  return [images, ...views, ...permutations, ...(audio ? [audio] : []), ...targets].map(
    ({ buffer }) => buffer as ArrayBuffer,
  );
}
