/** A table of how a cost grows with a size. */

export interface Point {
  readonly value: number;
  readonly imagesPerSecond: number;
  readonly secondsPerStep: number;
  readonly peakBytes: number;
}

/** The exponent p of a cost that grows as value^p between two points. */
export const slope = (from: readonly [value: number, cost: number], to: readonly [number, number]): number =>
  Math.log(to[1] / from[1]) / Math.log(to[0] / from[0]);

/** Markdown, with the slopes of time and memory from each row to the next. */
export function growthTable(what: string, unit: string, points: readonly Point[], why: string): string {
  const lines = points.map((p, i) => {
    const before = points[i - 1];
    const of = (cost: (point: Point) => number) =>
      before ? slope([before.value, cost(before)], [p.value, cost(p)]).toFixed(2) : "";
    const columns = [
      p.value.toLocaleString("en"),
      p.imagesPerSecond.toPrecision(3),
      (1000 * p.secondsPerStep).toFixed(0),
      of((point) => point.secondsPerStep),
      (p.peakBytes / 1e6).toFixed(0),
      of((point) => point.peakBytes),
    ];
    return `| ${columns.join(" | ")} |`;
  });
  return `## ${what}

| ${unit} | images/s | ms a step | slope | peak MB | slope |
|---|---|---|---|---|---|
${lines.join("\n")}

${why}`;
}
