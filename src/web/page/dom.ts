/** The parts of index.html, and of what is made anew. */

/** The element with that id, which index.html has. */
export function part(id: string): HTMLElement;
export function part<T extends HTMLElement>(id: string, type: new () => T): T;
export function part(id: string, type: new () => HTMLElement = HTMLElement): HTMLElement {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} "${id}"`);
  return found;
}

/** Made with a class; strings among the children are text. */
export function made<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className: string,
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

/** Changes the text where it differs: what is read aloud is read once. */
export function say(id: string, text: string): void {
  const element = part(id);
  if (element.textContent !== text) element.textContent = text;
}

export function show(id: string, shown: boolean): void {
  part(id).hidden = !shown;
}
