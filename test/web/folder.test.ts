import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { expect } from "chai";
import { serve } from "../../src/api/serve.ts";
import { web } from "../../src/api/web.ts";
import { readArtifact } from "../../src/artifact/files.ts";
import { decodeSafetensors } from "../../src/files/safetensors.ts";
import { temporaryFolder } from "../data/folder.ts";
import { WEB } from "../support/built.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { json, refusal, run, start } from "../support/program.ts";

describe("a page's folder", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const small = ["web", "simclr", "--image-size", "16"];

  it("holds an artifact for any runtime, its views, and what is built; it is written over", async () => {
    for (let time = 0; time < 2; time++) {
      const result = await json([...small, "--set", "temperature=0.2", "--out", at("page")]);
      expect(result).to.include({ artifact: "simclr-resnet20-16", url: null });
      const files = (result.files as string[]).sort();
      expect(await readdir(at("page"))).to.deep.equal(files);
      expect(files).to.include.members([
        ...(await readdir(WEB)),
        "step-wasm.onnx",
        "views.onnx",
        "state.safetensors",
      ]);
    }
    const { manifest, graph } = await readArtifact(at("page"));
    expect(manifest.target).to.equal("portable");
    expect(manifest.method.config.temperature).to.equal(0.2);
    await graph("step"); // as the manifest says
    const first = decodeSafetensors(await readFile(at("page/state.safetensors")), "state");
    expect(first).to.deep.equal({ tensors: new Map(), metadata: {} });
  });

  it("begins with a run's weights, without its images' rows or the optimizer's state", async () => {
    const [data, runDir] = [await pictures(at("images"), 6), at("run")];
    const graph = await tinyArtifact(at("graph"), {
      method: "instance-discrimination",
      config: { negatives: 2 },
    });
    const trained = [
      "--data",
      data,
      "--out",
      runDir,
      "--graph",
      graph,
      "--steps",
      "2",
      "--batch",
      "4",
      "--no-report",
    ];
    await json(["train", ...trained]);
    await json(["web", runDir, "--out", at("on")]);
    const { manifest } = await readArtifact(at("on"));
    const { tensors, metadata } = decodeSafetensors(await readFile(at("on/state.safetensors")), "state");
    expect(metadata).to.deep.equal({ run: "run" });
    const checkpoints = await readdir(join(runDir, "checkpoints"));
    const latest = await readFile(join(runDir, "checkpoints", checkpoints.sort().at(-1)!));
    const { tensors: state } = decodeSafetensors(latest, "checkpoint");
    const weights = manifest.state.filter(
      ({ role, name }) => role === "param" || /running_(mean|var)$/.test(name),
    );
    expect([...tensors.keys()]).to.have.members(weights.map(({ name }) => name));
    for (const [name, { data }] of tensors) expect(data, name).to.deep.equal(state.get(name)!.data);
  });

  const refused: readonly [what: string, args: readonly string[], says: RegExp][] = [
    ["no method", ["web", "simclrr", "--out", "new"], /unknown method "simclrr": did you mean "simclr"/],
    [
      "what a run decides",
      ["web", "run", "--out", "new", "--encoder", "vit-tiny"],
      /--encoder: expected it with a method/,
    ],
    ["a port", [...small, "--out", "new", "--serve", "70000"], /a port: 1 to 65535/],
    [
      "a folder with a page that is not ours",
      [...small, "--out", "foreign"],
      /would write over, found "index.html"|"worker.js"/,
    ],
  ];
  for (const [what, args, says] of refused)
    it(`refuses ${what}`, async () => {
      await mkdir(at("foreign"), { recursive: true });
      await writeFile(at("foreign/worker.js"), "their own");
      await mkdir(at("run"), { recursive: true });
      if (!(await readdir(at("run"))).includes("config.json")) await writeFile(at("run/config.json"), "{}");
      expect(refusal(await run(args, folder.path))).to.match(says);
      expect(await readFile(at("foreign/worker.js"), "utf8")).to.equal("their own");
    });

  it("says how to build what is missing", async () => {
    const failed = await web({ of: "simclr", out: at("none"), built: at("nothing") }).catch(
      (error) => error.message,
    );
    expect(failed).to.match(
      /^web: expected a built page in .*nothing, found none; run "npm run build" first$/,
    );
  });

  /** What a server answers to a path as it stands: browsers would tidy it. */
  const ask = (url: string, path: string, method = "GET") =>
    new Promise<{ status: number; headers: Record<string, unknown>; body: string }>((resolve, reject) => {
      const { hostname, port } = new URL(url);
      request({ hostname, port, path, method }, (response) => {
        let body = "";
        response.on("data", (part) => {
          body += part;
        });
        response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, body }));
      })
        .on("error", reject)
        .end();
    });

  it("is served to this machine, its own files alone, isolated and under a policy", async () => {
    await mkdir(at("served/inner"), { recursive: true });
    await writeFile(at("served/index.html"), "<p>page");
    await writeFile(at("served/secret.txt"), "secret");
    const serving = await serve(at("served"), ["index.html"], 0);
    try {
      expect(serving.url).to.match(/^http:\/\/127\.0\.0\.1:\d+\/$/);
      const page = await ask(serving.url, "/?query");
      expect(page).to.deep.include({ status: 200, body: "<p>page" });
      expect(page.headers).to.include({
        "content-type": "text/html; charset=utf-8",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-embedder-policy": "require-corp",
      });
      expect(page.headers["content-security-policy"]).to.match(
        /^default-src 'none'; script-src 'self' 'wasm-unsafe-eval';/,
      );
      const others = [
        "/secret.txt",
        "/../served/index.html",
        "/%2e%2e/served/secret.txt",
        "/inner",
        "/inner/../secret.txt",
        "//x",
      ];
      for (const path of others) expect((await ask(serving.url, path)).status, path).to.equal(404);
      expect((await ask(serving.url, "/", "POST")).status).to.equal(405);
      expect(await ask(serving.url, "/", "HEAD")).to.deep.include({ status: 200, body: "" });
      const { port } = new URL(serving.url);
      const taken = await serve(at("served"), [], Number(port)).catch((error) => error.message);
      expect(taken).to.match(/^--serve \d+: expected a free port, found one that is taken/);
    } finally {
      await serving.close();
    }
  });

  it("is served until it is interrupted", async () => {
    const probe = await serve(folder.path, [], 0);
    const { port } = new URL(probe.url);
    await probe.close(); // free now
    const { child, ended } = start([...small, "--out", at("served-page"), "--serve", port]);
    await new Promise((resolve) => child.stdout!.once("data", resolve));
    expect((await ask(probe.url, "/worker.js")).status).to.equal(200);
    child.kill("SIGINT");
    const { code, stdout } = await ended;
    expect(code).to.equal(0);
    expect(stdout).to.include(`open ${probe.url} (Ctrl-C ends it)`);
  });
});
