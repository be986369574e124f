import { existsSync } from "node:fs";
import { cp, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { pathToFileURL } from "node:url";
import { expect } from "chai";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { probes } from "../../src/api/probe.ts";
import { recordProbes } from "../../src/api/probe-record.ts";
import { reportAfterTraining } from "../../src/api/report.ts";
import { embeddingShown } from "../../src/api/report-embedding.ts";
import { viewsShown } from "../../src/api/report-views.ts";
import { openLoader } from "../../src/data/loader.ts";
import { findImages, findLabelledImages, openEncoder, readArtifact, report, train } from "../../src/index.ts";
import type { Chart } from "../../src/report/curves.ts";
import { rowsOf } from "../../src/report/neighbours.ts";
import { type Run, readRecords } from "../../src/report/run.ts";
import { readConfig } from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { openBrowser } from "../support/browser.ts";
import { picture, tinyArtifact } from "../support/pictures.ts";
import { errorsIn, json, run as program } from "../support/program.ts";

/** Names that would be markup; the second is of a folder, whose images' paths hold "</script>". */
const CLASSES = [`<img src=x onerror="document.title='injected'">`, "a<", "c&amp;'"];
const NESTED = `script><script>document.title='injected'<`;

/** Of a run's folder. */
const OTHER = "other<img src=x>";

/** What the page's program is given. */
interface PageData {
  readonly charts: readonly Chart[];
  readonly map?: {
    readonly points: readonly (readonly [number, number])[];
    readonly names: readonly string[];
  };
}

describe("a report", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  let text: string;
  let data: PageData;

  const dataOf = (page: string): PageData =>
    JSON.parse(/<script type="application\/json" id="data">(.*?)<\/script>/s.exec(page)![1]!);
  const read = async (): Promise<Run> => {
    const { manifest } = await readArtifact(at("run"));
    return {
      name: "run",
      config: await readConfig(at("run")),
      manifest,
      records: await readRecords(at("run")),
    };
  };
  const sectionsOf = (page: string) => [...page.matchAll(/<section id="(\w+)"/g)].map(([, id]) => id);

  before(async () => {
    for (const [hue, name] of CLASSES.entries())
      for (let i = 0; i < 8; i++)
        await picture(join(at("images"), name, name === "a<" ? NESTED : "", `${i}.png`), hue);
    const settings = { data: at("images"), graph: await tinyArtifact(at("graph")), batch: 8, threads: 1 };
    await train({ ...settings, out: at("run"), epochs: 4, knnData: at("images") });
    await train({ ...settings, out: at(OTHER), epochs: 3, lr: 0.01, seed: 1 });
    // Names of classes that would be markup, in its confusion.
    const asked = { encoder: at("run"), train: at("images"), test: at("images"), threads: 1 };
    await recordProbes(await probes({ ...asked, kinds: ["knn", "layers"] }), asked);
    const made = await report(at("run"), { threads: 1 });
    expect(made).to.deep.include({ report: at("run/report.html"), leftOut: [] });
    text = await readFile(made.report, "utf8");
    expect(made.bytes).to.equal(Buffer.byteLength(text)).and.below(3e6);
    data = dataOf(text);
  });

  it("holds each part", () => {
    const wanted = ["curves", "probes", "views", "neighbours", "map", "settings", "time"];
    expect(sectionsOf(text)).to.deep.equal(wanted);
    expect(data.charts.map(({ key }) => key)).to.include.members([
      "loss",
      "accuracy",
      "knn",
      "rankme",
      "lr",
      "layers",
    ]);
    expect(data.map!.points).to.have.length(24);
    expect(text.match(/class="viewed"/g)).to.have.length(8); // a batch
    expect(text.match(/class="confusion"/g)).to.have.length(2);
    expect(text.match(/class="cell near"/g)).to.have.length(12 * (1 + 5 + 5));
    expect(text.match(/url\("data:image\/webp;base64,/g)).to.have.length(3);
    expect(text).to.include("arXiv 2002.05709");
  });

  it("says where the time went, and the rank", () => {
    const section = text.slice(text.indexOf('<section id="time"'));
    const names = [...section.matchAll(/<dt>(.*?)<\/dt>/g)].map(([, name]) => name);
    expect(names).to.deep.equal([
      ...["in all", "steps", "waiting for images", "checkpoints", "kNN and rank", "start and export"],
      "memory of the process, at most",
    ]);
    const shares = [...section.matchAll(/\((\d+\.\d) %\)/g)].map(([, share]) => Number(share));
    expect(shares).to.have.length(5);
    expect(shares.reduce((sum, share) => sum + share)).to.be.closeTo(100, 0.5);
    expect(text).to.match(/<span>RankMe<\/span><strong>\d/);
  });

  it("finds neighbours by the encoders as initialised and as trained", async () => {
    const settings = { data: at("images"), graph: at("graph"), batch: 8, threads: 1 };
    await train({ ...settings, out: at("initial"), steps: 0 });
    const sources = await findLabelledImages(at("images"));
    const by = async (folder: string) => {
      const encoder = await openEncoder(at(folder), { threads: 1 });
      const own = await encoder.embed(sources);
      await encoder.close();
      return { train: own, test: own };
    };
    const wanted = rowsOf({ train: "", test: "" }, await by("initial"), await by("run"));
    const { neighbours } = await embeddingShown(at("run"), await read(), { threads: 1 }, {});
    expect(neighbours.rows).to.deep.equal(wanted);
    expect(wanted.map(({ before }) => before)).not.to.deep.equal(wanted.map(({ after }) => after));
  });

  it("shows the images of the last step", async () => {
    const run = await read();
    const { config } = run;
    const { files, epoch } = await viewsShown(run, { threads: 1 });
    const sources = await findImages(at("images"));
    const { seed, batch, shorterSide } = config;
    const options = { seed, batch, shorterSide, cacheBytes: 0, startStep: 11, steps: 12, warn: () => {} };
    const loader = openLoader(sources, options);
    const last = await loader.next();
    await loader.close();
    expect(epoch)
      .to.equal(last.epoch + 1)
      .and.to.equal(4);
    expect(files).to.deep.equal(last.indices.map((i) => sources.files[i]));
  });

  it("takes no name for markup", () => {
    expect(text).not.to.include("<img");
    expect(text.match(/<script/g)).to.have.length(2);
    expect(data.map!.names.some((name) => name.includes(NESTED))).to.equal(true);
  });

  it("of several runs lays them side by side", async () => {
    expect(await failure(report([at("run"), at(OTHER)]))).to.match(/several runs: expected --out FILE/);
    const { report: file } = await report([at("run"), at(OTHER)], { out: at("both.html") });
    const page = await readFile(file, "utf8");
    expect(sectionsOf(page)).to.deep.equal(["comparison", "probes", "curves"]);
    const [loss] = dataOf(page).charts;
    expect(loss!.series.map(({ name, x }) => [name, x.length])).to.deep.equal([
      [at("run"), 12],
      [at(OTHER), 9],
    ]);
    for (const name of ["lr", "seed", "steps", "kNN on"]) expect(page).to.include(`>${name}</th>`);
    expect(page).not.to.include(">batch</th>");
  });

  it("leaves out what is not there any more, and says so", async () => {
    await cp(at("run"), at("moved"), { recursive: true });
    await rename(at("images"), at("away"));
    try {
      const { leftOut } = await report(at("moved"), { threads: 1 });
      expect(leftOut).to.have.length(2);
      for (const line of leftOut)
        expect(line).to.match(/^(views|neighbours and map): .*found nothing at this/);
      const page = await readFile(at("moved/report.html"), "utf8");
      expect(sectionsOf(page)).to.deep.equal(["curves", "probes", "settings", "time", "notes"]);
      await writeFile(at("moved/metrics.jsonl"), ""); // interrupted before its first step
      await report(at("moved"), { threads: 1 });
    } finally {
      await rename(at("away"), at("images"));
    }
  });

  it("has no neighbours at the start where the first weights are gone", async () => {
    const path = at("moved/config.json");
    const init = { from: "elsewhere", file: "elsewhere", tensors: 3 };
    await cp(at("run"), at("moved"), { recursive: true });
    await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), init }));
    await writeFile(at("moved/probes.json"), "{}");
    const { leftOut } = await report(at("moved"), { threads: 1 });
    expect(leftOut).to.have.length(2);
    expect(leftOut[0]).to.match(/^probes: .*probes\.json: "format": expected 1/);
    expect(leftOut[1]).to.match(/^neighbours at the start: the checkpoint with the weights .* is gone$/);
    expect(await readFile(at("moved/report.html"), "utf8")).not.to.include('data-title="at the start"');
  });

  it("goes over no file of another kind", async () => {
    const file = await folder.write("mine.html", "<!doctype html>");
    const said = await failure(report(at("run"), { out: file }));
    expect(said).to.match(/mine\.html: expected a report or no file, found another file/);
    expect(await readFile(file, "utf8")).to.equal("<!doctype html>");
  });

  it("is written at the end of a training run, which does not fail with it", async () => {
    const args = ["train", "--data", at("images"), "--graph", at("graph"), "--batch", "8", "--steps", "2"];
    const out = [...args, "--threads", "1", "--out"];
    const written = await program([...out, at("with")]);
    expect(written.stdout).to.match(/\nrun: .*\nreport: .*report\.html\n$/);
    expect(existsSync(at("with/report.html"))).to.equal(true);
    expect((await json([...out, at("without"), "--no-report"])).report).to.equal(null);
    expect(existsSync(at("without/report.html"))).to.equal(false);
    await mkdir(at("taken/report.html"), { recursive: true });
    const taken = await program([...out, at("taken")]);
    expect(taken.code, taken.stderr).to.equal(0);
    expect(taken.stderr.match(/^warning: there is no report: .*$/gm)).to.have.length(1);
    expect(errorsIn(taken)).to.deep.equal([]);
  });

  it("can be interrupted", async () => {
    const said: string[] = [];
    const stream = new PassThrough().on("data", (text) => said.push(`${text}`));
    const surroundings = { output: { stream, quiet: true }, signal: AbortSignal.abort() };
    expect(await reportAfterTraining(at("run"), surroundings)).to.equal(null);
    expect(said.join("")).to.match(
      /^warning: there is no report: interrupted; ort-pretrain report .* makes one\n$/,
    );
  });

  describe("in a browser", () => {
    let browser: Browser | undefined;
    let context: BrowserContext;
    let page: Page;
    const said: string[] = [];
    const asked: string[] = [];

    before(async function () {
      browser = await openBrowser();
      if (!browser) return this.skip();
      context = await browser.newContext({ offline: true, viewport: { width: 1000, height: 800 } });
      page = await open(at("run/report.html"));
    });
    after(() => browser?.close());

    async function open(file: string): Promise<Page> {
      const opened = await context.newPage();
      opened.on("console", (message) => said.push(message.text()));
      opened.on("pageerror", ({ message }) => said.push(message));
      opened.on("dialog", (dialog) => said.push(dialog.message()));
      opened.on("request", (request) => asked.push(request.url()));
      await opened.goto(pathToFileURL(file).href);
      return opened;
    }

    /** Pixels of a canvas that are not of its ground. */
    const marksOf = (opened: Page, selector: string) =>
      opened.locator(selector).evaluateAll((canvases) =>
        canvases.map((element) => {
          // biome-ignore lint/suspicious/noExplicitAny: a canvas, of whose types Node knows nothing
          const canvas = element as any;
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let marks = 0;
          // Of a colour, which axes and their grid have not.
          for (let i = 0; i < data.length; i += 4)
            if (data[i + 3] > 100 && Math.abs(data[i] - data[i + 2]) > 60) marks++;
          return marks;
        }),
      );

    it("draws every chart and the map", async () => {
      const marks = await marksOf(page, ".plot canvas");
      expect(marks).to.have.length(data.charts.length);
      for (const count of marks) expect(count).to.be.above(50);
      expect((await marksOf(page, ".map canvas"))[0]).to.be.above(24 * 20);
    });

    it("shows every view", async () => {
      const places = await page.locator(".cell.views").evaluateAll((cells) =>
        cells.map((element) => {
          // biome-ignore lint/suspicious/noExplicitAny: the window, of whose types Node knows nothing
          const { backgroundPosition, backgroundImage } = (globalThis as any).getComputedStyle(element);
          return backgroundImage.startsWith("url") ? backgroundPosition : "";
        }),
      );
      expect(new Set(places).size).to.equal(8 * (1 + 2));
    });

    it("tells the values that the pointer is at", async () => {
      const value = page.locator("[data-chart='0'] .u-legend .u-series:nth-child(2) .u-value");
      expect(await value.textContent()).to.equal("–");
      await page.locator("[data-chart='0'] .u-over").hover();
      expect(Number(await value.textContent())).to.be.within(0.1, 10);
    });

    it("shows the image that the pointer is at, its name as it is", async () => {
      const tip = page.locator(".tip");
      expect(await tip.isVisible()).to.equal(false);
      const canvas = page.locator(".map canvas");
      const { width, height } = (await canvas.boundingBox())!;
      const place = data.map!.names.findIndex((name) => name.includes(NESTED));
      const [x, y] = data.map!.points[place]!;
      await canvas.hover({ position: { x: 14 + x * (width - 28), y: 14 + y * (height - 28) } });
      expect(await tip.isVisible()).to.equal(true);
      expect(await tip.locator(".name").textContent()).to.be.oneOf(data.map!.names as string[]);
      const { image, size } = await tip.locator(".cell").evaluate((element) => {
        // biome-ignore lint/suspicious/noExplicitAny: the window, of whose types Node knows nothing
        const style = (globalThis as any).getComputedStyle(element);
        return { image: style.backgroundImage, size: style.width };
      });
      expect(image).to.match(/^url\("data:image\/webp/);
      expect(size).to.equal("80px");
      await page.locator(".classes button").nth(1).click();
      expect(await page.locator(".classes button").nth(1).getAttribute("aria-pressed")).to.equal("true");
    });

    it("fits a phone, in the dark, and draws runs side by side", async () => {
      await page.setViewportSize({ width: 360, height: 700 });
      await page.emulateMedia({ colorScheme: "dark" });
      const both = await open(at("both.html"));
      await both.setViewportSize({ width: 360, height: 700 });
      for (const opened of [page, both]) {
        // Charts follow the window's width a frame later.
        await opened.waitForFunction("document.documentElement.scrollWidth <= innerWidth");
        for (const count of await marksOf(opened, ".plot canvas")) expect(count).to.be.above(50);
        expect(await opened.locator("img, iframe, object").count()).to.equal(0);
      }
      expect(await page.evaluate("getComputedStyle(document.body).backgroundColor")).to.equal(
        "rgb(20, 23, 27)",
      );
    });

    it("says nothing, asks for nothing and lets nothing in", async () => {
      expect(said).to.deep.equal([]);
      expect(asked.filter((url) => !/^(file|data):/.test(url))).to.deep.equal([]);
      expect(asked.filter((url) => url.startsWith("file:"))).to.have.length(2);
      expect(await page.title()).to.equal("simclr, resnet20, 16 px");
      // Were there a hole all the same, the page's policy would stand before it.
      const entered = await page.evaluate<string>(`
        const script = document.createElement("script");
        script.textContent = "document.title = 'injected'";
        document.body.append(script);
        document.title`);
      expect(entered).to.equal("simclr, resnet20, 16 px");
    });
  });

  after(() => rm(at("moved"), { recursive: true, force: true }));
});
