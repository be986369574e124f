import { spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { temporaryFolder } from "../data/folder.ts";
import { MAIN } from "../support/built.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { metricsOf, reaches, start } from "../support/program.ts";

describe("cli: signals", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  /** Runs for hours unless it is stopped, and saves nothing unless it is told to. */
  const endless = (out: string) => [
    ...["train", "--data", at("photos"), "--out", at(out), "--graph", at("graph"), "--batch", "4"],
    ...["--threads", "1", "--steps", "1000000", "--checkpoint-every", "1000000", "--json"],
  ];
  const saved = (out: string) => readdir(at(`${out}/checkpoints`)).catch(() => []);
  const stepsOf = async (out: string) => (await metricsOf(at(out))).at(-1)!.step!;

  before(async () => {
    await tinyArtifact(at("graph"));
    await pictures(at("photos"), 8);
  });

  const asking = ["SIGUSR1", "SIGUSR2", "SIGHUP"] as const;
  (process.platform === "win32" ? it.skip : it)(
    `${asking.join(", ")}: a checkpoint, and training goes on; SIGTERM: one, and it ends`,
    async () => {
      const { child, ended } = start(endless("asked"));
      let steps = 1;
      for (const [i, signal] of asking.entries()) {
        await reaches(at("asked"), steps, child);
        child.kill(signal);
        // A later signal's checkpoint is another one: two are kept.
        let newest: string | undefined;
        const before = (await saved("asked")).sort().at(-1);
        while (child.exitCode === null && child.signalCode === null) {
          newest = (await saved("asked"))
            .filter((name) => name.endsWith(".safetensors"))
            .sort()
            .at(-1);
          if (newest !== undefined && newest !== before) break;
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        expect(newest, `${i}: ${signal}`).not.to.equal(before);
        steps = (await stepsOf("asked")) + 1;
      }
      await reaches(at("asked"), steps, child);
      child.kill("SIGTERM");
      const { code, stdout, stderr } = await ended;
      expect(code, stderr).to.equal(130);
      expect(JSON.parse(stdout)).to.include({ interrupted: true });
      expect(stderr.match(/^checkpoint written after step \d+$/gm)).to.have.length(asking.length);
      expect(stderr).not.to.contain("Debugger");
    },
  );

  it("a run that npx started stops with a checkpoint once npx is gone", async () => {
    const command = [process.execPath, MAIN, ...endless("orphan")].map((word) => `'${word}'`).join(" ");
    const env = { ...process.env, npm_command: "exec" };
    const parent = spawn("sh", ["-c", `${command}; true`], { env, stdio: ["ignore", "pipe", "ignore"] });
    const closed = new Promise((resolve) => parent.stdout.on("close", resolve)); // by the last that holds it
    parent.stdout.resume();
    await reaches(at("orphan"), 2, parent);
    parent.kill("SIGKILL");
    await closed;
    expect(await saved("orphan")).to.have.length(1);
  });
});
