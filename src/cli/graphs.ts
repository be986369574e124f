import { relative } from "node:path";
import { Command } from "commander";
import { GRAPHS, prebuiltFolders } from "../api/artifacts.ts";
import { writeOrtTraining } from "../api/ort-training.ts";
import { recipes } from "../api/recipes.ts";
import type { ArtifactSpec } from "../artifact/artifact-spec.ts";
import { compile, piecesFor, targetNamed } from "../artifact/compile.ts";
import { type GraphName, ownFolder, readArtifact, writeArtifact } from "../artifact/files.ts";
import { UPDATES, type UpdateBy } from "../artifact/ort-training.ts";
import { encoders } from "../encoders/index.ts";
import { expected } from "../errors.ts";
import { decodeModel } from "../graph/protos.ts";
import { methodNamed, methods } from "../methods/index.ts";
import { type AudioEntry, type JsonObject, type Manifest, TARGETS, type TargetName } from "../spec.ts";
import { integer, oneOf, positive, positiveInteger, report, setting } from "./options.ts";

interface BuildFlags {
  readonly method: string;
  readonly encoder: string;
  readonly imageSize: number;
  readonly optimizer?: string;
  readonly target?: TargetName;
  readonly batch: number;
  readonly format: Format;
  readonly update?: UpdateBy;
  readonly seed?: number;
  readonly images?: number;
  readonly epochs?: number;
  readonly set?: JsonObject;
  readonly out: string;
  readonly json?: boolean;
}

/** Ours, or ONNX Runtime's own. */
const FORMATS = ["artifact", "ort-training"] as const;
type Format = (typeof FORMATS)[number];

const kb = (bytes: number) => `${(bytes / 1e3).toFixed(0)} kB`;
const parameters = ({ state }: Manifest) =>
  state.filter((s) => s.role === "param").reduce((sum, s) => sum + s.shape.reduce((a, b) => a * b, 1), 0);
const millions = (n: number) => `${(n / 1e6).toFixed(2)} M`;

function countBy<T>(items: readonly T[], key: (item: T) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const item of items) counts[key(item)] = (counts[key(item)] ?? 0) + 1;
  return counts;
}

const build = () =>
  new Command("build")
    .description("Compile a training artifact")
    .requiredOption("--method <name>")
    .requiredOption("--encoder <name>")
    .option("--image-size <px>", "height and width of the views", positiveInteger, 32)
    .option("--optimizer <name>", "sgd, lars or adamw (default: the encoder's or the method's)")
    .option(
      "--target <name>",
      "portable for any runtime, or cpu or cuda for what is fastest there (default: portable; of ort-training cpu)",
      oneOf<TargetName>("target", TARGETS),
    )
    .option("--batch <n>", "images a step that it is to be fastest for (cpu)", positiveInteger, 256)
    .option(
      "--format <name>",
      "artifact for train, or ort-training for ONNX Runtime's training API (docs/on-device.md)",
      oneOf<Format>("format", FORMATS),
      "artifact",
    )
    .option(
      "--update <who>",
      "of ort-training: graph, exactly as train does it, or runtime, by ONNX Runtime's AdamW or SGD (default: graph)",
      oneOf<UpdateBy>("update", UPDATES),
    )
    .option("--seed <n>", "of ort-training's first weights (default: 0)", integer)
    .option("--images <n>", "with --update runtime: plans the learning rate for so many", positiveInteger)
    .option("--epochs <n>", "and so many passes over them (default: 100)", positive)
    .option("--set <key=value>", "a setting of the method; may be given several times", setting)
    .requiredOption("--out <dir>", "folder for manifest.json and the graphs")
    .option("--json", "end with one JSON object on standard output")
    .action(async ({ out, json, set, batch, target, format, ...flags }: BuildFlags) => {
      const { method, encoder, imageSize, optimizer, ...training } = flags;
      const spec: ArtifactSpec = {
        ...{ method, encoder, imageSize },
        ...(optimizer && { optimizer }),
        ...(set && { config: set }),
      };
      if (format === "ort-training") {
        if (target === "cuda")
          throw expected("--format ort-training", "it with --target cpu or portable", `--target ${target}`);
        const { manifest, files } = await writeOrtTraining(out, spec, { batch, target, ...training });
        report(json, { artifact: out, ...manifest, training: files }, [
          `${out}: ${manifest.name}, ${millions(parameters(manifest))} parameters`,
          ...Object.entries(files).map(([file, bytes]) => `  ${file.padEnd(22)} ${kb(bytes)}`),
        ]);
        return;
      }
      const [given] = Object.keys(training);
      if (given) throw expected(`--${given}`, "it with --format ort-training", "--format artifact");
      await ownFolder(out); // before the work
      const { manifest, graphs } = compile(spec, targetNamed(target ?? "portable", piecesFor(spec, batch)));
      const written = await writeArtifact(out, manifest, graphs);
      report(json, { artifact: out, ...written }, [
        `${out}: ${manifest.name}, ${millions(parameters(written))} parameters, step ${kb(graphs.step.length)}`,
      ]);
    });

const list = () =>
  new Command("list")
    .description("List prebuilt artifacts, methods and encoders")
    .option("--json", "end with one JSON object on standard output")
    .action(async ({ json }: { json?: boolean }) => {
      const manifests = await Promise.all(
        prebuiltFolders().map(async (dir) => ({ dir, manifest: (await readArtifact(dir)).manifest })),
      );
      const prebuilt = manifests.map(({ dir, manifest }) => ({
        name: manifest.name,
        folder: relative(GRAPHS, dir),
        method: manifest.method.name,
        encoder: manifest.encoder.name,
        imageSize: manifest.encoder.imageSize,
        parameters: parameters(manifest),
        bytes: Object.values(manifest.files).reduce((sum, file) => sum + (file?.bytes ?? 0), 0),
      }));
      const known = {
        methods: methods.map(({ name, paper }) => ({ name, paper })),
        encoders: encoders.map(({ name, paper, features }) => ({ name, paper, features })),
        recipes: recipes.map((recipe) => ({ ...recipe, paper: methodNamed(recipe.method).paper })),
      };
      report(json, { prebuilt, ...known }, [
        "prebuilt artifacts:",
        ...prebuilt.map((p) => `  ${p.name.padEnd(24)} ${millions(p.parameters)} parameters, ${kb(p.bytes)}`),
        "methods:",
        ...known.methods.map((m) => `  ${m.name.padEnd(24)} ${m.paper}`),
        "encoders:",
        ...known.encoders.map(
          (e) => `  ${e.name.padEnd(24)} ${`${e.features} features`.padEnd(14)} ${e.paper}`,
        ),
        "recipes (train --recipe NAME):",
        ...known.recipes.map(
          (r) =>
            `  ${r.name.padEnd(33)} ${`${r.encoder}, ${r.imageSize} px, batch ${r.batch}, ${r.epochs} epochs`.padEnd(44)} ` +
            `${r.figure}; ${r.paper.split(", ").at(-1)}`,
        ),
      ]);
    });

const inspect = () =>
  new Command("inspect")
    .description("Show what an artifact or a run holds")
    .argument("<dir>", "folder with a manifest.json")
    .option("--json", "end with one JSON object on standard output")
    .action(async (dir: string, { json }: { json?: boolean }) => {
      const artifact = await readArtifact(dir);
      const { manifest } = artifact;
      const graphs = await Promise.all(
        (Object.keys(manifest.files) as GraphName[]).map(async (which) => {
          const bytes = await artifact.graph(which);
          const nodes = decodeModel(bytes).graph?.node ?? [];
          return {
            which,
            bytes: bytes.length,
            operators: countBy(nodes, ({ opType }) => opType),
          };
        }),
      );
      const roles = countBy(manifest.state, ({ role }) => role);
      report(json, { manifest, graphs }, [
        `${manifest.name}: ${manifest.method.paper}`,
        `method     ${manifest.method.name} ${JSON.stringify(manifest.method.config)}`,
        `encoder    ${manifest.encoder.name}, ${manifest.encoder.imageSize} px, ${manifest.encoder.features} features`,
        `optimizer  ${manifest.optimizer.name} ${JSON.stringify(manifest.optimizer.config)}`,
        `views      ${manifest.views.length}, ${[...new Set(manifest.views.map((v) => `${v.recipe.size} px`))].join(", ")}`,
        ...(manifest.audio ? [describeAudio(manifest.audio)] : []),
        `scalars    ${manifest.scalars.map((s) => `${s.name} (${s.schedule.kind})`).join(", ")}`,
        `state      ${Object.entries(roles)
          .map(([role, n]) => `${n} ${role}`)
          .join(", ")}; ${millions(parameters(manifest))} parameters`,
        `target     ${manifest.target ?? "cpu"}${manifest.pieces > 1 ? `, ${manifest.pieces} pieces` : ""}`,
        `metrics    ${manifest.metrics.join(", ")}`,
        ...graphs.map(({ which, bytes, operators }) => {
          const most = Object.entries(operators).sort((a, b) => b[1] - a[1]);
          const nodes = most.reduce((sum, [, n]) => sum + n, 0);
          return `${which.padEnd(10)} ${kb(bytes)}, ${nodes} nodes: ${most
            .slice(0, 8)
            .map(([op, n]) => `${n} ${op}`)
            .join(", ")}`;
        }),
      ]);
    });

export const graphsCommand = () =>
  new Command("graphs")
    .description("Build, list and inspect training artifacts")
    .addCommand(build())
    .addCommand(list())
    .addCommand(inspect());

const describeAudio = ({ samples, rate, encoder, embedding }: AudioEntry): string =>
  `audio      ${samples / rate} s at ${rate} Hz; ${encoder.name}, ${encoder.features} features; embeddings of ${embedding}`;
