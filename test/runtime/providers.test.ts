import { join } from "node:path";
import { expect } from "chai";
import { linesOf } from "../../src/cli/doctor.ts";
import { UserError } from "../../src/errors.ts";
import { type Check, checkProvider, providerFor, providerNamed } from "../../src/runtime/providers.ts";
import type { Provider } from "../../src/runtime/session.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { hostOf } from "./cuda/host.ts";

describe("runtime/providers", () => {
  const folder = temporaryFolder();

  it("knows them by name", () => {
    expect([providerNamed("webgpu"), providerNamed("auto")]).to.deep.equal(["webgpu", "auto"]);
    const unknown = /"webgl": did you mean "webgpu"\? \(known: cpu, webgpu, cuda, auto\)/;
    expect(() => providerNamed("webgl")).to.throw(UserError, unknown);
  });

  it("checks one by a graph that runs", async () => {
    expect(await checkProvider("cpu")).to.deep.equal({
      provider: "cpu",
      works: true,
      detail: "works",
      faults: [],
    });
  });

  /** What "auto" takes where these work, on a machine with NVIDIA's device, and what was tried. */
  async function auto(works: readonly Provider[], root = "gpu") {
    await folder.write("gpu/dev/nvidiactl", "");
    const tried: Provider[] = [];
    const check = async (provider: Provider): Promise<Check> => {
      tried.push(provider);
      const faults = provider === "cuda" ? [{ what: "no cuDNN", commands: [] }] : [];
      return { provider, works: works.includes(provider), detail: "no adapter", faults };
    };
    const host = hostOf(join(folder.path, root));
    const { provider, chosen } = await providerFor({ provider: "auto", device: 1 }, { host, check });
    return { provider, said: chosen.join("\n"), tried };
  }

  it("takes the best that works for auto, and says why", async () => {
    expect(await auto(["cuda", "webgpu"])).to.deep.equal({
      provider: "cuda",
      said: "provider cuda: the best that works here",
      tried: ["cuda"],
    });
    expect(await auto(["webgpu"])).to.deep.equal({
      provider: "webgpu",
      said: "provider webgpu: the best that works here (cuda: no cuDNN)",
      tried: ["cuda", "webgpu"],
    });
    expect((await auto([])).said).to.equal(
      'provider cpu: the best that works here (cuda: no cuDNN; webgpu: no adapter); "ort-pretrain doctor" tells what they need',
    );
    expect(await auto(["webgpu"], "no-gpu")).to.deep.include({ provider: "cpu", tried: [] });
  });

  it("takes another as it is asked for; a device is for CUDA", async () => {
    expect(await providerFor({ provider: "webgpu" })).to.deep.equal({ provider: "webgpu", chosen: [] });
    expect(await providerFor({})).to.deep.equal({ provider: "cpu", chosen: [] });
    expect(await failure(providerFor({ provider: "cpu", device: 1 }))).to.equal(
      "--device: expected it with --provider cuda, found --provider cpu",
    );
  });

  it("is told by doctor: what fails, why, and the commands", () => {
    const faults = [{ what: "no cuDNN", commands: ["pip install cudnn", "and more"] }];
    const lines = linesOf({ provider: "cuda", works: false, detail: "CUDA failure 35", faults });
    expect(lines.map((line) => line.trim().replace(/ +/g, " "))).to.deep.equal([
      "cuda does not work: CUDA failure 35",
      "- no cuDNN",
      "pip install cudnn",
      "and more",
    ]);
  });
});
