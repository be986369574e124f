/**
 * A fault in what the user gave (a path, a value, a file), as one line for people. The command line prints
 * its message alone and ends with `exitCode`; anything else that is thrown is a bug of ours.
 */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly exitCode: number;
  constructor(message: string, exitCode = 2) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Where it went wrong, what was expected there, what was found, and (if it helps) what to do. */
export function expected(where: string, wanted: string, found: string, advice?: string): UserError {
  return new UserError(`${where}: expected ${wanted}, found ${found}${advice ? `; ${advice}` : ""}`);
}

/** An unknown name, with the nearest known one. */
export function unknownName(kind: string, name: string, known: readonly string[]): UserError {
  const near = nearest(name, known);
  return new UserError(
    `unknown ${kind} "${name}"${near ? `: did you mean "${near}"?` : ""} (known: ${known.join(", ")})`,
  );
}

/** The item of that name. @throws UserError with the nearest known name. */
export function named<T extends { readonly name: string }>(
  kind: string,
  name: string,
  items: readonly T[],
): T {
  const found = items.find((item) => item.name === name);
  if (found) return found;
  throw unknownName(
    kind,
    name,
    items.map((item) => item.name),
  );
}

/** The known name at the least edit distance, if it is near enough to be a slip of the hand. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const scored = known.map((k) => ({ k, d: editDistance(name.toLowerCase(), k.toLowerCase()) }));
  const best = scored.sort((a, b) => a.d - b.d)[0];
  return best && best.d <= Math.max(2, Math.ceil(best.k.length / 3)) ? best.k : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

/** The message of anything thrown, on one line. */
export function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ").trim();
}
