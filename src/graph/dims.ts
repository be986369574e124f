/**
 * Arithmetic on sizes. A symbolic size is a polynomial with whole coefficients in named symbols, written the one
 * way that `format` writes it ("n", "2*n", "h*n + 3"), so two sizes are equal when their texts are.
 */
import type { Dim, Shape } from "../spec.ts";

type Terms = ReadonlyMap<string, number>; // product of symbols ("" for none) -> coefficient

export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a + b;
  const sum = new Map(parse(a));
  for (const [symbols, k] of parse(b)) sum.set(symbols, (sum.get(symbols) ?? 0) + k);
  return format(sum);
}

export function multiplyDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a * b;
  const product = new Map<string, number>();
  for (const [s, k] of parse(a))
    for (const [t, m] of parse(b)) {
      const symbols = [...s.split("*"), ...t.split("*")].filter(Boolean).sort().join("*");
      product.set(symbols, (product.get(symbols) ?? 0) + k * m);
    }
  return format(product);
}

/** Number of elements. */
export const elements = (shape: Shape): Dim => shape.reduce<Dim>(multiplyDims, 1);

/** a / b where that is a whole size, else undefined. */
export function divideDims(a: Dim, b: Dim): Dim | undefined {
  if (a === b) return 1;
  if (b === 0) return undefined;
  const divisor = [...parse(b)];
  if (divisor.length !== 1) return undefined;
  const [symbols, k] = divisor[0]!;
  const quotient = new Map<string, number>();
  for (const [s, m] of parse(a)) {
    const left = s.split("*").filter(Boolean);
    for (const symbol of symbols.split("*").filter(Boolean)) {
      const at = left.indexOf(symbol);
      if (at < 0) return undefined;
      left.splice(at, 1);
    }
    if (m % k !== 0) return undefined;
    quotient.set(left.join("*"), m / k);
  }
  return format(quotient);
}

export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((size, i) => size === b[i]);

/** The least that a size can be: each symbol stands for 1 or more. */
export function atLeast(dim: Dim): number {
  let total = 0;
  for (const k of parse(dim).values()) {
    if (k < 0) return 0;
    total += k;
  }
  return total;
}

/** For messages: [2*n, 3, 32, 32]. */
export const showShape = (shape: Shape): string => `[${shape.join(", ")}]`;

/** The size when each symbol has the value given. */
export function evaluateDim(dim: Dim, symbols: Readonly<Record<string, number>>): number {
  let total = 0;
  for (const [names, k] of parse(dim)) {
    let term = k;
    for (const name of names.split("*").filter(Boolean)) {
      const value = symbols[name];
      if (value === undefined) throw new Error(`size ${dim}: symbol ${name} has no value`);
      term *= value;
    }
    total += term;
  }
  return total;
}

function parse(dim: Dim): Terms {
  if (typeof dim === "number") return new Map([["", dim]]);
  const terms = new Map<string, number>();
  for (const term of dim.split(" + ")) {
    const factors = term.split("*");
    const k = /^-?\d+$/.test(factors[0]!) ? Number(factors.shift()) : 1;
    terms.set(factors.join("*"), k);
  }
  return terms;
}

function format(terms: Terms): Dim {
  const kept = [...terms].filter(([, k]) => k !== 0).sort(([s], [t]) => (s < t ? 1 : -1));
  if (kept.length === 0) return 0;
  if (kept.length === 1 && kept[0]![0] === "") return kept[0]![1];
  return kept.map(([s, k]) => (s === "" ? `${k}` : k === 1 ? s : `${k}*${s}`)).join(" + ");
}
