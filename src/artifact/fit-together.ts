/** Whether the parts of a manifest fit each other. */
import type * as z from "zod";
import type { Manifest } from "../spec.ts";

/** Adds an issue for each part that does not fit another, and for each name that is there twice. */
export function fitTogether(manifest: Manifest, context: z.core.$RefinementCtx<unknown>): void {
  const {
    files,
    views,
    audio,
    permutations,
    detection,
    labels,
    shares = [],
    scalars,
    state,
    metrics,
    embedding,
  } = manifest;
  if (Boolean(audio) !== Boolean(files.encodeAudio)) {
    const message = audio ? "a graph that encodes the audio" : "no such graph where there is no audio";
    context.addIssue({ code: "custom", path: ["files", "encodeAudio"], message });
  }
  if (detection && detection.view >= views.length) {
    context.addIssue({ code: "custom", path: ["detection", "view"], message: `less than ${views.length}` });
  }
  type Named = [path: (string | number)[], name: string];
  const unique = (kind: string, named: readonly Named[], taken: readonly string[] = []) => {
    const seen = new Set(taken);
    for (const [path, value] of named) {
      if (seen.has(value)) context.addIssue({ code: "custom", path, message: `a new name of ${kind}` });
      seen.add(value);
    }
  };
  unique(
    "a file",
    Object.entries(files).flatMap(([which, graph]): Named[] =>
      graph ? [[["files", which, "file"], graph.file]] : [],
    ),
  );
  unique(
    "an input",
    [
      ...views.map(({ input }, i): Named => [["views", i, "input"], input]),
      ...(audio ? [[["audio", "input"], audio.input] satisfies Named] : []),
      ...scalars.map((scalar, i): Named => [["scalars", i, "name"], scalar.name]),
      ...permutations.map((name, i): Named => [["permutations", i], name]),
      ...(detection
        ? (["classes", "distances"] as const).map((key): Named => [["detection", key], detection[key]])
        : []),
      ...(labels === undefined ? [] : [[["labels"], labels] satisfies Named]),
      ...shares.map(({ name }, i): Named => [["shares", i, "name"], name]),
      ...state.map((entry, i): Named => [["state", i, "name"], entry.name]),
      ...state.flatMap(({ rows }, i): Named[] =>
        rows ? [[["state", i, "rows", "others"], rows.others]] : [],
      ),
    ],
    ["images"],
  );
  unique("an output", [
    ...state.map(({ next }, i): Named => [["state", i, "next"], next]),
    ...metrics.map((metric, i): Named => [["metrics", i], metric]),
    [["embedding"], embedding],
  ]);

  const byName = new Map(state.map((entry) => [entry.name, entry]));
  for (const [i, { init, dtype, shape: sizes, rows }] of state.entries()) {
    if (rows && dtype !== "float32")
      context.addIssue({
        code: "custom",
        path: ["state", i, "dtype"],
        message: "float32 for a memory bank",
      });
    if (init.kind !== "copy") continue;
    const source = byName.get(init.of);
    const fits =
      source && !rows && !source.rows && source.dtype === dtype && source.shape.join() === sizes.join();
    if (!fits || source.init.kind === "copy") {
      const message = `a state tensor with ${dtype} [${sizes}] that is not a copy itself`;
      context.addIssue({ code: "custom", path: ["state", i, "init", "of"], message });
    }
  }
}
