/** Which providers work on this machine, and the best of them. */
import { create } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import * as ort from "onnxruntime-node";
import { expected, messageOf, unknownName } from "../errors.ts";
import { IR_VERSION, OPSET } from "../graph/model.ts";
import { encodeModel, nodeProto, opsetOf, valueInfo } from "../graph/protos.ts";
import { type Host, thisHost } from "./cuda/host.ts";
import { loadingFault } from "./cuda/libraries.ts";
import { type Fault, faultsOf, hasDevice } from "./faults.ts";
import { openSession, PROVIDERS, type Provider, type SessionOptions } from "./session.ts";

/** A provider by name, or the best that works. */
export type ProviderChoice = Provider | "auto";
export const PROVIDER_CHOICES: readonly ProviderChoice[] = [...PROVIDERS, "auto"];

export function providerNamed(name: string): ProviderChoice {
  const found = PROVIDER_CHOICES.find((choice) => choice === name);
  if (!found) throw unknownName("provider", name, PROVIDER_CHOICES);
  return found;
}

export interface Check {
  readonly provider: Provider;
  readonly works: boolean;
  /** "works", or how it failed. */
  readonly detail: string;
  /** Where it failed: what can be seen of the reasons, and what mends them. */
  readonly faults: readonly Fault[];
}

/** Where to run. */
type On = Pick<SessionOptions, "device" | "cudaLibraries">;

/** Runs a graph of one node: the only sure sign that a provider works here. */
export async function checkProvider(provider: Provider, on: On = {}, host = thisHost()): Promise<Check> {
  const failed = (detail: string) => {
    const faults = faultsOf(provider, host, on.cudaLibraries);
    const why = provider === "cuda" && faults.length === 0 ? loadingFault(host) : undefined;
    return { provider, works: false, detail: why ? `${detail}: ${why}` : detail, faults };
  };
  try {
    const session = await openSession(oneNode(), "a test graph", { ...on, provider });
    const { y } = await session.run({ x: new ort.Tensor("float32", Float32Array.of(1), [1]) });
    await session.close();
    if (y?.data[0] !== 2) return failed(`1 + 1 gave ${y?.data[0]}`);
    const detail =
      provider === "cpu" || hasDevice(provider, host) ? "works" : "works, though there is no GPU";
    return { provider, works: true, detail, faults: [] };
  } catch (error) {
    return failed(inShort(messageOf(error)));
  }
}

/** y = x + x. */
function oneNode(): Uint8Array {
  const [x, y] = ["x", "y"].map((name) => valueInfo(name, "float32", [1]));
  const node = [nodeProto("Add", "add", ["x", "x"], ["y"])];
  const graph = { name: "doctor", node, input: [x!], output: [y!] };
  return encodeModel(
    create(ModelProtoSchema, { irVersion: BigInt(IR_VERSION), opsetImport: [opsetOf("", OPSET)], graph }),
  );
}

/** The runtime's own words, without the places in its sources and what we say ourselves. */
const inShort = (message: string): string =>
  /CUDA failure \d+: [^;]*[^; ]/.exec(message)?.[0] ??
  message
    .replace(/^.*?, found: /, "")
    .replace(/; "ort-pretrain doctor" tells .*$/, "")
    .replace(/^.* was false\. /, "")
    .slice(0, 200);

/**
 * The provider asked for; for "auto" the first of cuda, webgpu and cpu that works here, and a line to be shown that
 * says why. Where the system has no GPU neither of the first two is
 * tried: WebGPU would run on the CPU, slower than the provider that is made for it.
 *
 * @param probes for tests.
 * @throws UserError if a device is given to a provider that takes none.
 */
export async function providerFor(
  { provider: choice = "cpu", ...on }: On & { readonly provider?: ProviderChoice | undefined },
  probes: { readonly host?: Host; readonly check?: typeof checkProvider } = {},
): Promise<{ provider: Provider; chosen: readonly string[] }> {
  const { host = thisHost(), check = checkProvider } = probes;
  if (on.device !== undefined && choice !== "auto" && choice !== "cuda")
    throw expected("--device", "it with --provider cuda", `--provider ${choice}`);
  if (choice !== "auto") return { provider: choice, chosen: [] };
  const failed: string[] = [];
  for (const provider of ["cuda", "webgpu"] as const) {
    const tried = hasDevice(provider, host) ? await check(provider, on, host) : undefined;
    if (tried?.works) return { provider, chosen: [`provider ${provider}: ${reason(failed)}`] };
    failed.push(`${provider}: ${tried ? (tried.faults[0]?.what ?? tried.detail) : "no GPU for it"}`);
  }
  const advice = '"ort-pretrain doctor" tells what they need';
  return { provider: "cpu", chosen: [`provider cpu: ${reason(failed)}; ${advice}`] };
}

const reason = (failed: readonly string[]) =>
  `the best that works here${failed.length > 0 ? ` (${failed.join("; ")})` : ""}`;
