/** The curve of the loss, which grows while it is watched. */
import uPlot from "uplot";
import type { Curve } from "./curve.ts";

export interface LossChart {
  /** The points so far. */
  readonly curve: Curve;
  /** In place of what there is of that step and later ones: a training may have gone back to its checkpoint. */
  add(step: number, loss: number): void;
  /** Takes all points away; steps go up to `steps`. */
  begin(steps: number): void;
}

/** Share of the moving average that each step keeps of the one before. */
const KEPT = 0.9;
const HEIGHT = 240;

export function openLossChart(place: HTMLElement): LossChart {
  const steps: number[] = [];
  const losses: number[] = [];
  const averages: number[] = []; // from 0 on
  const smooth: number[] = [];
  const all = [steps, losses, averages, smooth];
  let last = 2;
  let plot = drawn();
  let awaited = false;

  function drawn(): uPlot {
    const style = getComputedStyle(document.documentElement);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: color("--soft"),
      font: "11px system-ui, sans-serif",
      grid: { stroke: color("--grid"), width: 1 },
      ticks: { stroke: color("--grid"), width: 1, size: 4 },
    };
    const shown = (_: uPlot, value: number | null) =>
      value == null ? "–" : `${Number(value.toPrecision(4))}`;
    const options: uPlot.Options = {
      width: Math.max(200, place.clientWidth),
      height: HEIGHT,
      scales: {
        x: { time: false, distr: 3, range: () => [steps[0] ?? 1, Math.max(last, (steps[0] ?? 1) + 1)] },
      },
      axes: [
        {
          ...axis,
          size: 28,
          splits: (_, __, from, to) => roundNumbers(from, to),
          filter: (_, at) => at, // all of them
          values: (_, at) => at.map(String),
        },
        { ...axis, size: 48 },
      ],
      series: [
        { label: "step" },
        {
          label: "loss",
          stroke: faint(color("--series-0")),
          width: 1,
          value: shown,
          points: { show: false },
        },
        { label: "average", stroke: color("--series-0"), width: 2, value: shown, points: { show: false } },
      ],
    };
    return new uPlot(options, [steps, losses, smooth], place);
  }

  function redraw() {
    if (awaited) return;
    awaited = true;
    requestAnimationFrame(() => {
      awaited = false;
      const width = Math.max(200, place.clientWidth);
      if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
      plot.setData([steps, losses, smooth]);
    });
  }

  new ResizeObserver(redraw).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plot.destroy();
    plot = drawn();
  });
  return {
    get curve() {
      return { from: steps[0] ?? 1, losses };
    },
    add(step, loss) {
      while (steps.length > 0 && steps.at(-1)! >= step) for (const values of all) values.pop();
      const average = KEPT * (averages.at(-1) ?? 0) + (1 - KEPT) * loss;
      steps.push(step);
      losses.push(loss);
      averages.push(average);
      smooth.push(average / (1 - KEPT ** steps.length)); // of these steps alone, without the 0
      redraw();
    },
    begin(count) {
      for (const values of all) values.length = 0;
      last = count;
      redraw();
    },
  };
}

/** 1, 2, 5, 10, 20, 50, ...; over less than a decade or so as many even ones as fit. */
function roundNumbers(from: number, to: number): number[] {
  const found: number[] = [];
  for (let power = 1; power <= to; power *= 10)
    for (const digit of to / from < 8 ? [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9] : [1, 2, 5])
      if (digit * power >= from && digit * power <= to && Number.isInteger(digit * power))
        found.push(digit * power);
  return found;
}

const faint = (color: string): string => `color-mix(in srgb, ${color} 35%, transparent)`;
