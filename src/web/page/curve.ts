/** The losses so far, kept beside the checkpoint so that their curve outlasts a reload. */

/** Of the steps `from`, `from` + 1, ... */
export interface Curve {
  readonly from: number;
  readonly losses: readonly number[];
}

/** Pages of one origin share its storage. */
const KEY = `ort-pretrain ${location.pathname} losses`;

/** Where there is no room, or no storage, the curve begins anew after a reload. */
export function keepCurve({ from, losses }: Curve): void {
  try {
    const rounded = losses.map((loss) => Number(loss.toPrecision(5)));
    localStorage.setItem(KEY, JSON.stringify({ from, losses: rounded }));
  } catch {}
}

export function keptCurve(): Curve | undefined {
  try {
    const { from, losses } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    const fits = Number.isInteger(from) && Array.isArray(losses) && losses.every(Number.isFinite);
    return fits ? { from, losses } : undefined;
  } catch {
    return undefined;
  }
}
