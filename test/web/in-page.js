/** Runs in a page: opens its worker, and makes what `openWorked` calls. */
{
  const worker = new Worker("/worker.js", { type: "module" });
  const answers = [];
  let told = 0; // of the answers, to the caller
  let arrived = () => {};
  const push = (answer) => {
    answers.push(answer);
    arrived();
  };
  worker.onmessage = ({ data }) => push(data);
  worker.onerror = ({ message }) => push({ kind: "failed", message });

  /** The one folder of the page's own storage. */
  const folder = async () => {
    const root = await navigator.storage.getDirectory();
    for await (const handle of root.values()) return handle;
    return undefined;
  };

  globalThis.worked = {
    /** Answers to a request, or those not told yet, up to the first of a kind, or to one that failed. */
    async ask(request, until) {
      const from = request ? answers.length : told;
      if (request) worker.postMessage(request);
      for (let at = from; ; at++) {
        while (answers.length <= at)
          await new Promise((resolve) => {
            arrived = resolve;
          });
        const { kind } = answers[at];
        told = at + 1;
        if (kind === until || kind === "failed") return answers.slice(from, told);
      }
    },
    async stored() {
      const files = [];
      for await (const handle of (await folder()).values())
        files.push([handle.name, new Uint8Array(await (await handle.getFile()).arrayBuffer())]);
      return Object.fromEntries(files);
    },
    async store(name, bytes) {
      const file = await (await (await folder()).getFileHandle(name, { create: true })).createWritable();
      await file.write(bytes);
      await file.close();
    },
  };
}
