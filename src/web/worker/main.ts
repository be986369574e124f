/**
 * The page's worker. It goes round one loop: a request where there is one, else a step of the training at hand, so that what
 * is asked is done between two steps.
 */
import * as z from "zod";
import { messageOf, UserError } from "../../errors.ts";
import type { Answer, Request } from "../messages.ts";
import { openPage, type Page } from "./page.ts";

z.config({ jitless: true }); // its other way is to compile text, which the page's policy forbids

const inbox: Request[] = [];
let arrived = () => {};
addEventListener("message", ({ data }: MessageEvent<Request>) => {
  inbox.push(data);
  arrived();
});

const post = (answer: Answer) => postMessage(answer);
const failed = (message: string) => post({ kind: "failed", message });
const told = (error: unknown) =>
  error instanceof UserError ? error.message : `a fault of this page: ${messageOf(error)}`;

/** Lets messages arrive: a task of its own, without the 4 ms that timers are kept waiting for. */
const { port1, port2 } = new MessageChannel();
const turn = () =>
  new Promise<void>((resolve) => {
    port1.onmessage = () => resolve();
    port2.postMessage(null);
  });

/** A function, for a module that waits where it stands would not be told of messages in every browser. */
async function serve(): Promise<never> {
  let page: Page | undefined;
  for (;;) {
    while (inbox.length === 0 && !page?.training)
      await new Promise<void>((resolve) => {
        arrived = resolve;
      });
    const request = inbox.shift();
    try {
      if (request?.kind === "open") page ??= await openPage(request, { post, failed });
      else if (request && !page) failed(`expected "open" first, found "${request.kind}"`);
      else if (request) await page!.answer(request);
      else await page!.advance();
    } catch (error) {
      failed(told(error));
    }
    await turn();
  }
}

void serve();
