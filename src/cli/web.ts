import { Command } from "commander";
import { serve } from "../api/serve.ts";
import { type WebOptions, web } from "../api/web.ts";
import { port, positiveInteger, report, setting } from "./options.ts";

interface Flags extends Pick<WebOptions, "out" | "encoder" | "imageSize"> {
  readonly set?: WebOptions["config"];
  readonly serve?: number | true;
  readonly json?: boolean;
}

/** The same each time: a browser keeps what a page stored by its address. */
const PORT = 8080;

export const webCommand = () =>
  new Command("web")
    .description("Write a page that trains in a browser, on images that never leave it")
    .argument("<of>", "a method's name, or a run's folder, whose encoder is trained on")
    .requiredOption("--out <dir>", "the page's folder")
    .option("--encoder <name>", "encoder, of a method (default: resnet20)")
    .option("--image-size <px>", "height and width of the views, of a method (default: 32)", positiveInteger)
    .option("--set <key=value>", "a setting of the method; may be given several times", setting)
    .option("--serve [port]", `serve it to this machine until Ctrl-C (default: ${PORT})`, port)
    .option("--json", "one JSON object on standard output")
    .action(async (of: string, { set, serve: wanted, json, ...flags }: Flags) => {
      const result = await web({ of, ...flags, ...(set && { config: set }) });
      const { page, artifact, bytes, files } = result;
      const serving = wanted && (await serve(page, files, wanted === true ? PORT : wanted));
      report(json, { ...result, url: serving ? serving.url : null }, [
        `${flags.out}: ${artifact}, ${files.length} files, ${(bytes / 1e6).toFixed(1)} MB`,
        ...result.report,
        serving
          ? `open ${serving.url} (Ctrl-C ends it)`
          : `open it with  ort-pretrain web ${of} --out ${flags.out} --serve  or from any server of files (docs/web.md)`,
      ]);
      if (!serving) return;
      await new Promise<void>((resolve) => {
        process.once("SIGINT", () => resolve()).once("SIGTERM", () => resolve());
      });
      await serving.close();
    });
