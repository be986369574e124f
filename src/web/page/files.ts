/** Files that are chosen or dropped, made into squares. */
import { decoded, type Square } from "./squares.ts";

export interface NamedFile {
  /** With the folders that it lies in. */
  readonly name: string;
  readonly file: File;
}

export const chosenIn = (input: HTMLInputElement): NamedFile[] =>
  [...(input.files ?? [])].map((file) => ({ name: file.webkitRelativePath || file.name, file }));

/** Hands over what is dropped on an element: files, and those in folders and the folders below them. */
export function onDrop(element: HTMLElement, take: (files: NamedFile[]) => void): void {
  const over = (event: DragEvent, inside: boolean) => {
    event.preventDefault();
    element.classList.toggle("over", inside);
  };
  element.addEventListener("dragover", (event) => over(event, true));
  element.addEventListener("dragleave", (event) => over(event, false));
  element.addEventListener("drop", (event) => {
    over(event, false);
    // They can be asked for only now, before anything is waited for.
    const dropped = [...(event.dataTransfer?.items ?? [])].map(
      (item) => item.webkitGetAsEntry() ?? item.getAsFile(),
    );
    void Promise.all(dropped.map(filesIn)).then((files) => take(files.flat()));
  });
}

/** A file, or all files in a folder and in those below it; none where it is neither, or cannot be read. */
async function filesIn(dropped: FileSystemEntry | File | null): Promise<NamedFile[]> {
  if (dropped instanceof File) return [{ name: dropped.name, file: dropped }];
  if (dropped?.isFile) {
    const entry = dropped as FileSystemFileEntry;
    const file = await new Promise<File | undefined>((resolve) =>
      entry.file(resolve, () => resolve(undefined)),
    );
    return file ? [{ name: entry.fullPath.slice(1), file }] : [];
  }
  if (!dropped?.isDirectory) return [];
  const reader = (dropped as FileSystemDirectoryEntry).createReader();
  const found: NamedFile[] = [];
  for (;;) {
    // Some at a time; none is the end.
    const some = await new Promise<FileSystemEntry[]>((resolve) =>
      reader.readEntries(resolve, () => resolve([])),
    );
    if (some.length === 0) return found;
    for (const one of some) found.push(...(await filesIn(one)));
  }
}

/** Those that are images by their names, hidden ones left out, in an order that hangs on nothing but their names. */
export const imagesAmong = (files: readonly NamedFile[]): NamedFile[] =>
  files
    .filter(({ name, file }) => file.type.startsWith("image/") && !/(^|\/)\./.test(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));

/** Files that are decoded at a time. */
const LANES = 4;

export interface Read {
  readonly squares: readonly Square[];
  /** Names of files that cannot be decoded. */
  readonly leftOut: readonly string[];
}

/** Decodes files, and tells how many are done. */
export async function readFiles(
  files: readonly NamedFile[],
  side: number,
  tell: (done: number) => void,
): Promise<Read> {
  const squares: (Square | undefined)[] = files.map(() => undefined);
  let [next, done] = [0, 0];
  const lane = async () => {
    while (next < files.length) {
      const at = next++;
      const { name, file } = files[at]!;
      const pixels = await decoded(file, side).catch(() => undefined);
      if (pixels) squares[at] = { name, pixels };
      tell(++done);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return {
    squares: squares.flatMap((square) => square ?? []),
    leftOut: files.flatMap(({ name }, i) => (squares[i] ? [] : [name])),
  };
}
