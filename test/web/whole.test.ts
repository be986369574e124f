import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { expect } from "chai";
import type { Browser } from "playwright-core";
import { serve } from "../../src/api/serve.ts";
import { web } from "../../src/api/web.ts";
import { readEncoderMetadata } from "../../src/export/metadata.ts";
import { temporaryFolder } from "../data/folder.ts";
import { openBrowser } from "../support/browser.ts";
import { WEB } from "../support/built.ts";

describe("a page and its worker", () => {
  const folder = temporaryFolder();
  let browser: Browser | undefined;
  before(async function () {
    browser = await openBrowser();
    if (!browser) return this.skip();
  });
  after(() => browser?.close());

  it("train on the sample, go on after a reload, and find look-alikes with the file that they give", async () => {
    const dir = join(folder.path, "page");
    await web({ of: "simclr", out: dir, imageSize: 16, built: WEB });
    const serving = await serve(dir, await readdir(dir), 0);
    const context = await browser!.newContext();
    const [requests, said]: [string[], string[]] = [[], []];
    context.on("request", (request) => requests.push(request.url()));
    const page = await context.newPage();
    page.on("console", (message) => said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    try {
      await page.goto(`${serving.url}?backend=wasm&threads=1`);
      await page.locator("#about").waitFor();
      const loaded = requests.length;
      await page.locator("#sample").click();
      await page.locator("#settings summary").click();
      await page.locator("#batch").fill("16");
      await page.locator("#steps").fill("200");
      await page.locator("#act").click();
      await page.locator("#curve").waitFor();
      await page.locator("#views-shown canvas").first().waitFor();
      await page.locator("#act").click();
      await page.locator("#download").waitFor(); // paused
      const step = async () => Number(await page.locator("#step").textContent());
      const paused = await step();
      expect(paused).to.be.within(1, 199);
      expect(requests.slice(loaded)).to.deep.equal([]);

      await page.reload();
      await page.locator("#act").click();
      while ((await step()) <= paused) await setTimeout(50);
      await page.locator("#act").click();
      const [download] = await Promise.all([
        page.waitForEvent("download"),
        page.locator("#download").click(),
      ]);
      expect(download.suggestedFilename()).to.equal("simclr-resnet20-16.onnx");
      const metadata = readEncoderMetadata(await readFile(await download.path()), "encoder.onnx");
      expect(metadata).to.include({ method: "simclr", images: 512 });
      expect(metadata.steps).to.be.above(paused);
      await page.locator("#trained-on button").first().click();
      await page.locator("#found canvas").nth(3).waitFor();
      expect(requests.filter((url) => !/^(blob:)?http:\/\/127\.0\.0\.1:/.test(url))).to.deep.equal([]);
      expect(said).to.deep.equal([]);
    } finally {
      await context.close();
      await serving.close();
    }
  });
});
