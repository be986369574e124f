/** The settings of runs as tables. */
import type { Json, JsonObject } from "../spec.ts";
import { plannedSteps, precisionOf, type RunConfig } from "../train/run-folder.ts";
import { runSchedules } from "../train/schedules.ts";
import { percent } from "./recipes.ts";
import { type Run, stepsPerEpoch } from "./run.ts";

/** By name, each as it is shown; what was left to a default that the machine decides is not there. */
export function settingsOf(run: Run): ReadonlyMap<string, string> {
  const { config, manifest } = run;
  const { method, encoder, optimizer, views } = manifest;
  const steps = plannedSteps(config);
  const epochs = steps / stepsPerEpoch(run);
  const sizes = [...new Set(views.map(({ recipe }) => `${recipe.size} px`))].join(", ");
  const entries: readonly (readonly [string, Json | undefined])[] = [
    ["method", method.name],
    ["paper", method.paper],
    ["recipe", config.recipe],
    ["encoder", encoder.name],
    ["features", encoder.features],
    ["image size", `${encoder.imageSize} px`],
    ["views of an image", `${views.length} of ${sizes}`],
    ["parameters", parameters(run)],
    ["images", config.images.toLocaleString("en")],
    ["data", config.data],
    ["positives", positives(config)],
    ["overlap of crops", config.cropOverlap],
    ["sample", config.limit],
    ["black and white", config.range?.join(" and ")],
    ["kNN on", config.knn?.data],
    ["first weights", config.init?.file],
    ["steps", steps],
    ["epochs", Number(epochs.toFixed(2))],
    ["batch", config.batch],
    ["micro-batch", config.microBatch],
    ["seed", config.seed],
    ["provider", config.provider],
    ["precision", config.provider === "cuda" ? precisionOf(config) : null],
    ["step built for", manifest.target],
    ["threads", config.threads],
    ["deterministic", config.deterministic],
    ...Object.entries(config.versions ?? {}),
    ...rates(run),
    ["optimizer", optimizer.name],
    ...settingsUnder(optimizer.name, optimizer.config, RATES),
    ...settingsUnder(method.name, method.config),
  ];
  return new Map(entries.flatMap(([name, value]) => (value == null ? [] : [[name, shown(value)] as const])));
}

function positives({ positives }: RunConfig): string | undefined {
  if (!positives) return undefined;
  const { kind, ...settings } = positives;
  const given = Object.entries(settings).filter(([, value]) => value !== null);
  return [kind, ...given.map(([name, value]) => `${name} ${value}`)].join(", ");
}

function parameters({ manifest }: Run): string {
  const sizes = manifest.state.filter(({ role }) => role === "param").map(({ shape }) => shape);
  const count = sizes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return `${(count / 1e6).toFixed(2)} M`;
}

/** Schedules of what varies, by their scalars' names. */
function rates({ config, manifest }: Run): readonly (readonly [string, string])[] {
  return Object.entries(runSchedules(manifest.scalars, config)).flatMap(([name, schedule]) => {
    if (name in manifest.method.config) return [];
    switch (schedule.kind) {
      case "constant":
        return [[name, short(schedule.value)]];
      case "linear":
        return [[name, `${short(schedule.from)} to ${short(schedule.to)} over ${schedule.epochs} epochs`]];
      case "cosine":
      case "steps": {
        const warmup = schedule.warmupEpochs > 0 ? `, warm-up ${schedule.warmupEpochs} epochs` : "";
        const falls =
          schedule.kind === "cosine"
            ? `cosine ${short(schedule.from)} to ${short(schedule.to)}`
            : `${short(schedule.from)}, times ${schedule.factor} at ${schedule.at.map(percent).join(", ")}`;
        return [[name, falls + warmup]];
      }
      default:
        return [];
    }
  });
}

const short = (value: number): string => `${Number(value.toPrecision(4))}`;

/** Of an optimizer, said with their schedules. */
const RATES: readonly string[] = ["lr", "weightDecay", "warmupEpochs", "finalLr", "drops"];

const settingsUnder = (
  whose: string,
  settings: JsonObject,
  but: readonly string[] = [],
): readonly (readonly [string, Json])[] =>
  Object.entries(settings).flatMap(([name, value]) =>
    but.includes(name) ? [] : [[`${whose}: ${name}`, value] as const],
  );

const shown = (value: Json): string => (typeof value === "string" ? value : JSON.stringify(value));

export interface Difference {
  readonly name: string;
  /** Of each run; undefined where it has no such setting. */
  readonly values: readonly (string | undefined)[];
}

/** What differs between runs, in the order of the first that has it. */
export function differences(runs: readonly Run[]): readonly Difference[] {
  const all = runs.map(settingsOf);
  const names = new Set(all.flatMap((settings) => [...settings.keys()]));
  return [...names]
    .map((name) => ({ name, values: all.map((settings) => settings.get(name)) }))
    .filter(({ values }) => new Set(values).size > 1);
}
