/** NVRTC, which compiles CUDA C at run time, by koffi. */
import { expected } from "../../errors.ts";
import type { Koffi, Pointer } from "../ort-api.ts";
import { libraryOf } from "./libraries.ts";

export interface Nvrtc {
  /** Such as "13.0". */
  readonly version: string;
  /**
   * A CUBIN, compiled on another thread. `what` names the kernel.
   *
   * @throws UserError with what the compiler says first
   */
  compile(source: string, options: readonly string[], what: string): Promise<Uint8Array>;
}

const SUCCESS = 0; // nvrtcResult

/** @throws Error if the library does not load. */
export function openNvrtc(koffi: Koffi, path: string): Nvrtc {
  const library = libraryOf(koffi, path);
  const f = {
    version: library.func("int nvrtcVersion(_Out_ int *, _Out_ int *)"),
    create: library.func(
      "int nvrtcCreateProgram(_Out_ void **, const char *, const char *, int, const char **, const char **)",
    ),
    compile: library.func("int nvrtcCompileProgram(void *, int, const char **)"),
    logSize: library.func("int nvrtcGetProgramLogSize(void *, _Out_ size_t *)"),
    log: library.func("int nvrtcGetProgramLog(void *, void *)"),
    size: library.func("int nvrtcGetCUBINSize(void *, _Out_ size_t *)"),
    cubin: library.func("int nvrtcGetCUBIN(void *, void *)"),
    destroy: library.func("int nvrtcDestroyProgram(_Inout_ void **)"),
    text: library.func("const char *nvrtcGetErrorString(int)"),
  };
  const check = (code: number) => {
    if (code !== SUCCESS) throw new Error(`NVRTC failure ${code}: ${f.text(code)}`);
  };
  const bytesOf = (program: Pointer, size: typeof f.size, read: typeof f.cubin): Buffer => {
    const count = [0];
    check(size(program, count));
    const bytes = Buffer.alloc(count[0]!);
    check(read(program, bytes));
    return bytes;
  };
  const [major, minor] = [[0], [0]];
  check(f.version(major, minor));
  return {
    version: `${major[0]}.${minor[0]}`,
    async compile(source, options, what) {
      const made: [Pointer | null] = [null];
      check(f.create(made, source, `${what}.cu`, 0, null, null));
      const program = made[0]!;
      try {
        const code = await beside(f.compile, program, options.length, options);
        if (code !== SUCCESS) {
          const log = bytesOf(program, f.logSize, f.log).toString().replace(/\0$/, "");
          const found = firstFault(log) ?? f.text(code);
          throw expected(`kernel ${what}`, `CUDA C that compiles with ${options.join(" ")}`, found);
        }
        return bytesOf(program, f.size, f.cubin);
      } finally {
        f.destroy(made);
      }
    },
  };
}

/** The first error of a compiler's log, which may begin with warnings. */
function firstFault(log: string): string | undefined {
  const lines = log.split("\n").map((line) => line.trim());
  return lines.find((line) => /\berror\b/.test(line)) ?? lines.find((line) => line !== "");
}

const beside = (f: ReturnType<ReturnType<Koffi["load"]>["func"]>, ...args: unknown[]): Promise<number> =>
  new Promise((resolve, reject) => {
    f.async(...args, (error: Error | null, code: number) => (error ? reject(error) : resolve(code)));
  });
