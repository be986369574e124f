import { expect } from "chai";
import type { Browser, Download, Locator, Page } from "playwright-core";
import sharp from "sharp";
import { sampleSheet } from "../../scripts/web-sample.ts";
import { decodeSquare } from "../../src/data/decode.ts";
import { mostImages } from "../../src/web/bounds.ts";
import { fileName, leftOutLine, missing, usualBatch } from "../../src/web/page/words.ts";
import { SAMPLE } from "../../src/web/sample.ts";
import { plain, temporaryFolder } from "../data/folder.ts";
import { openBrowser } from "../support/browser.ts";
import { type Files, type Opened, openPage, pageFiles } from "../support/web-page.ts";

/** A name that would be markup, if it were taken for it. */
const HOSTILE = `<img src=x onerror="document.title='injected'">.png`;

describe("words of the web page", () => {
  it("tell what is missing before a start", () => {
    const about = { method: "simclr", least: 8 };
    expect(missing(about, 0, 2)).to.equal("Bring images to start: simclr needs 8 or more.");
    expect(missing(about, 5, 5)).to.equal("simclr needs 8 images or more: 3 more.");
    expect(missing(about, 40, 64)).to.equal("A step of 64 images needs as many: 24 more, or fewer a step.");
    expect(missing(about, 8, 8)).to.equal(undefined);
    const usual = [0, 8, 10, 40, 100, 128, 20_000].map((images) => usualBatch(8, images));
    expect(usual).to.deep.equal([64, 8, 8, 20, 32, 64, 64]);
  });

  it("tell what is left out, how much is taken, and name the file", () => {
    expect(leftOutLine([], 0, 20_000)).to.equal("");
    expect(leftOutLine(["a", "b", "c", "d"], 2, 20_000)).to.equal(
      "4 files could not be read: a, b, c, …. 2 files left out: at most 20,000 images are taken.",
    );
    const about = { method: "simclr", encoder: "resnet20", imageSize: 32, paper: "", side: 36, least: 2 };
    expect([32, 256].map(mostImages)).to.deep.equal([20_000, 2604]);
    expect(fileName(about)).to.equal("simclr-resnet20-32.onnx");
  });
});

describe("the sample of the web page", () => {
  it("holds as many emoji as it says, each of its own look, in little room", async () => {
    const sheet = await sampleSheet();
    expect(sheet.length).to.be.below(1.5e6);
    const { data, info } = await sharp(sheet).raw().toBuffer({ resolveWithObject: true });
    const { side, columns, count } = SAMPLE;
    expect(info).to.include({ width: columns * side, height: (count / columns) * side, channels: 3 });
    const row = 3 * columns * side;
    const squares = Array.from({ length: count }, (_, i) => {
      const at = Math.floor(i / columns) * side * row + (i % columns) * side * 3;
      const lines = Array.from({ length: side }, (_, y) =>
        data.subarray(at + y * row, at + y * row + 3 * side),
      );
      return Buffer.concat(lines).toString("latin1");
    });
    expect(new Set(squares).size).to.equal(count);
  });
});

describe("the web page", () => {
  const folder = temporaryFolder();
  let browser: Browser | undefined;
  let files: Files;
  let opened: Opened | undefined;

  before(async function () {
    // A camera that shows a green field.
    browser = await openBrowser(["--use-fake-device-for-media-stream"]);
    if (!browser) this.skip();
    files = await pageFiles();
  });
  /** No page says an error, or is wider than its screen. */
  afterEach(async () => {
    if (!opened) return;
    const { page, said } = opened;
    opened = undefined;
    const [wide, screen] = await page.evaluate<[number, number]>(
      "[document.documentElement.scrollWidth, innerWidth]",
    );
    await page.context().close();
    expect(said).to.deep.equal([]);
    expect(wide).to.be.at.most(screen);
  });
  after(() => browser?.close());

  const open = async (...args: [fake?: object, options?: object]): Promise<Page> => {
    opened = await openPage(browser!, files, ...args);
    return opened.page;
  };
  const text = (page: Page, id: string) => page.locator(`#${id}`).textContent();
  /** Waits until that text is somewhere in the element. */
  const says = (page: Page, id: string, wanted: string | RegExp) =>
    page.locator(`#${id}`, { hasText: wanted }).waitFor();
  const visible = (page: Page, ...ids: string[]) =>
    Promise.all(ids.map((id) => page.locator(`#${id}`).isVisible()));
  const startWithSample = async (page: Page) => {
    await page.click("#sample");
    await page.click("#act:enabled");
  };
  /** Of each canvas, [pixels, 4]. */
  const pixelsOf = (canvases: Locator): Promise<number[][]> =>
    canvases.evaluateAll((found) =>
      found.map((element) => {
        // biome-ignore lint/suspicious/noExplicitAny: a canvas, of whose types Node knows nothing
        const canvas = element as any;
        return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
      }),
    );
  const names = (canvases: Locator) =>
    canvases.evaluateAll((found) => found.map((canvas) => canvas.getAttribute("aria-label")));

  it("trains on the sample, shows how it goes, hands the encoder over and finds look-alikes", async () => {
    const page = await open();
    await says(page, "status", "Bring images");
    expect(await visible(page, "failure", "note", "progress", "encoder")).to.deep.equal(Array(4).fill(false));
    expect(await page.locator("#about").innerText()).to.match(/simclr.*resnet20.*WebGPU/s);
    const loaded = [...opened!.requests];
    expect(loaded).to.have.members(["/", "/page.css", "/page.js", "/worker.js", "/sample.png"]);

    await startWithSample(page);
    await says(page, "status", "Training on 512 images.");
    await says(page, "status", "the encoder is ready");
    expect(await text(page, "step")).to.equal("300");
    expect(await text(page, "checkpoint")).to.equal("step 300");
    expect(Number(await text(page, "loss"))).to.be.within(1, 2);
    const [curve] = await pixelsOf(page.locator("#curve canvas"));
    expect(curve!.filter((value, i) => i % 4 === 3 && value > 0).length).to.be.above(1000);
    const hidden = page.locator("#curve .u-axis, #curve .u-legend .u-value");
    expect(await hidden.allTextContents()).not.to.include("null");

    expect(await page.locator("#views .column").count()).to.equal(12);
    const [view, other] = await pixelsOf(page.locator("#views .column").first().locator("canvas"));
    expect(other![1]).to.be.closeTo(0.6 * view![4 * 31 + 1]!, 1); // of the fake: mirrored and darker
    const rows = page.locator("#neighbours .row:not(.heads)");
    expect(await rows.count()).to.equal(12);
    expect(await rows.first().locator("canvas").count()).to.equal(1 + 5 + 5);
    expect(await page.locator("#neighbours .heads").innerText()).to.match(
      /before training\s+now, after step 300/,
    );
    const [before, now] = await Promise.all(
      [1, 2].map((i) =>
        names(
          rows
            .nth(3)
            .locator(".group")
            .nth(i - 1)
            .locator("canvas"),
        ),
      ),
    );
    expect(now).not.to.deep.equal(before);

    const started = page.waitForEvent("download");
    await page.click("#download");
    const download: Download = await started;
    expect(download.suggestedFilename()).to.equal("simclr-resnet20-32.onnx");
    await says(page, "exported", "1.1 MB, after step 300. Its features equal the trained encoder’s to 3e-7.");

    await page.locator("#trained-on button").nth(4).click();
    await page.locator("#found button").nth(7).waitFor();
    const [asked, ...found] = await names(page.locator("#found canvas"));
    expect(found).to.have.length(8).and.not.include(asked);
    await page.locator("#found button").first().click(); // and on from there
    await page.locator(`#found > .strip:first-child canvas[aria-label="${found[0]}"]`).waitFor();
    const png = await plain(30, 20, "#c00").png().toBuffer();
    await page.setInputFiles("#query-input", { name: HOSTILE, mimeType: "image/png", buffer: png });
    await page.locator(`#found > .strip:first-child canvas[title^="<img"]`).waitFor();
    expect(await page.locator("#found button").count()).to.equal(8);

    expect(opened!.requests).to.deep.equal(loaded);
    expect(await page.title()).not.to.include("injected");
  });

  it("pauses, goes on after a reload, and starts anew once that is sure", async () => {
    const page = await open({ pace: 6 }, { viewport: { width: 390, height: 800 }, colorScheme: "dark" });
    await startWithSample(page);
    await page.locator("#step", { hasText: /^[2-9]\d$/ }).waitFor();
    await page.click("#act"); // Pause
    await says(page, "status", "Paused after step");
    const at = Number(await text(page, "step"));
    expect(await visible(page, "encoder", "anew")).to.deep.equal([true, true]);
    await page.reload();
    await says(page, "status", `A training on 512 images is kept in this browser: step ${at} of 300.`);
    expect(await visible(page, "images", "encoder", "curve")).to.deep.equal([false, false, false]);
    expect(await text(page, "act")).to.equal(`Go on from step ${at}`);
    await page.keyboard.press("Tab"); // the first thing that can be done
    await page.keyboard.press("Enter");
    await says(page, "status", "Training on 512 images.");
    await says(page, "status", "the encoder is ready");
    expect(await page.locator("#trained-on canvas").count()).to.equal(24);
    expect(await text(page, "of-steps")).to.equal("of 300");
    // The curve has the steps before the reload, too.
    await page.locator("#curve .u-over").hover({ position: { x: 1, y: 60 } });
    await page.locator("#curve .u-series:first-child .u-value", { hasText: /^1$/ }).waitFor();

    await page.click("#anew");
    await page.keyboard.press("Enter"); // what is focused keeps it
    await page.locator("#ask").waitFor({ state: "hidden" });
    expect(await visible(page, "encoder")).to.deep.equal([true]);
    await page.click("#anew");
    expect(await text(page, "question")).to.include("The training up to step 300");
    await page.click("#yes");
    await says(page, "status", "512 images: ready to start.");
    expect(await visible(page, "images", "curve", "neighbours")).to.deep.equal([true, false, false]);
    await page.reload();
    await says(page, "status", "Bring images");
  });

  it("reads a folder: upright squares, names as text, bad files left out, hidden ones not looked at", async () => {
    // Red on the left and blue on the right, to be turned by 90 degrees: red above.
    const halves = await plain(120, 60, "#00f")
      .composite([
        { input: { create: { width: 60, height: 60, channels: 3, background: "#f00" } }, left: 0, top: 0 },
      ])
      .withMetadata({ orientation: 6 })
      .jpeg({ quality: 95 })
      .toBuffer();
    const turned = await folder.write("in/b/turned.jpg", halves);
    await folder.write("in/a.png", await plain(9, 30, "#0c0").png().toBuffer());
    await folder.write(`in/b/${HOSTILE.replaceAll("/", "")}`, await plain(40, 40, "#fff").png().toBuffer());
    await folder.write("in/broken.png", "no image");
    await folder.write("in/notes.txt", "text");
    await folder.write("in/.hidden.png", await plain(4, 4, "#000").png().toBuffer());
    const through = await sharp({ create: { width: 8, height: 8, channels: 4, background: "#0000" } })
      .png()
      .toBuffer();
    await folder.write("in/through.png", through);

    const page = await open({ least: 6 });
    await page.setInputFiles("#folder-input", `${folder.path}/in`);
    await says(page, "left-out", "1 file could not be read: in/broken.png.");
    expect(await text(page, "status")).to.equal("simclr needs 6 images or more: 2 more.");
    expect(await page.locator("#act").isDisabled()).to.equal(true);
    const canvases = page.locator("#gathered canvas");
    expect(await names(canvases)).to.deep.equal([
      "in/a.png",
      `in/b/${HOSTILE}`,
      "in/b/turned.jpg",
      "in/through.png",
    ]);
    const [green, , upright, empty] = await pixelsOf(canvases);
    expect(green!.slice(0, 4)).to.deep.equal([0, 204, 0, 255]);
    expect(empty!.slice(0, 3)).to.deep.equal([124, 116, 104]);
    const wanted = (await decodeSquare(turned, 40)).pixels;
    const shown = upright!.filter((_, i) => i % 4 < 3);
    expect(shown.reduce((sum, value, i) => sum + Math.abs(value - wanted[i]!), 0) / shown.length).to.be.below(
      3,
    );
    expect(await page.title()).not.to.include("injected");

    // The same folder, dropped as a file manager does.
    const devtools = await page.context().newCDPSession(page);
    const { x, y } = (await page.locator("#bring").boundingBox())!;
    const data = { items: [], files: [`${folder.path}/in`], dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"] as const)
      await devtools.send("Input.dispatchDragEvent", { type, x: x + 20, y: y + 20, data });
    await says(page, "status", "8 images: ready to start.");
    await page.setInputFiles("#files-input", {
      name: "c.txt",
      mimeType: "text/plain",
      buffer: Buffer.from(""),
    });
    await says(page, "failure", "there is no image among these files");
    await page.click("#clear");
    await says(page, "status", "Bring images");
  });

  it("takes frames of a camera until it is stopped, and says why there is none", async () => {
    const page = await open({}, { permissions: ["camera"] });
    await page.click("#camera");
    await says(page, "camera", /Stop \((9|1\d)\)/);
    await page.click("#camera");
    expect(await text(page, "camera")).to.equal("Camera");
    expect(await visible(page, "viewfinder")).to.deep.equal([false]);
    const taken = Number(/^\d+/.exec((await text(page, "status"))!)![0]);
    expect(taken).to.be.at.least(9);
    expect(await page.locator("#gathered canvas").count()).to.equal(taken);
    await page.context().clearPermissions();
    await page.click("#camera");
    await says(page, "failure", "no camera: it was refused");
    expect(await visible(page, "viewfinder")).to.deep.equal([false]);
  });

  it("lets neither itself nor its worker ask for anything from elsewhere", async () => {
    const page = await open({ asks: "https://elsewhere.test/secret" });
    await says(page, "failure", "Failed to fetch");
    const own = page.evaluate("fetch('https://elsewhere.test/').catch((error) => error.message)");
    expect(await own).to.equal("Failed to fetch");
    expect(opened!.requests).to.have.members(["/", "/page.css", "/page.js", "/worker.js", "/sample.png"]);
    expect(opened!.said.splice(0).join()).to.include("connect-src 'self'");
  });

  it("goes on from its checkpoint after a step that failed", async () => {
    const page = await open({ breaksAt: 70 });
    await startWithSample(page);
    await says(page, "failure", "a step failed: no memory");
    await says(page, "status", "A training on 512 images is kept in this browser: step 50 of 300.");
    expect(await visible(page, "encoder")).to.deep.equal([false]); // the worker may not have it any more
    await page.click("#act");
    expect(await text(page, "failure")).to.equal("");
    await says(page, "status", "the encoder is ready");
    expect(await text(page, "step")).to.equal("300");
  });

  it("says the slower path, and failures, in one line", async () => {
    const note = "no WebGPU in this browser: training runs on one thread";
    const page = await open({ note, fails: { kind: "begin", message: "expected 64 images <b>or more</b>" } });
    await says(page, "note", note);
    expect(await page.locator("#about").innerText()).to.match(/WebAssembly\s+one thread/);
    await page.click("#sample");
    await page.click("summary");
    await page.fill("#steps", "0");
    await page.click("#act");
    expect(await visible(page, "images")).to.deep.equal([true]); // not started
    await page.fill("#steps", "50");
    await page.click("#act");
    await says(page, "failure", "expected 64 images <b>or more</b>");
    expect(await text(page, "status")).to.equal("512 images: ready to start.");
    expect(await page.locator("#failure").getAttribute("role")).to.equal("alert");
    await page.context().close();

    const broken = await open({
      fails: { kind: "open", message: "manifest.json: expected a file, found none" },
    });
    await says(broken, "failure", "manifest.json: expected a file, found none");
    expect(await visible(broken, "images", "training", "encoder")).to.deep.equal([false, false, false]);
    await broken.context().close();

    const without = new Map([...files].filter(([path]) => path !== "/worker.js"));
    opened = await openPage(browser!, without);
    await says(opened.page, "failure", "the worker has stopped: it could not be loaded; reload the page");
  });
});
