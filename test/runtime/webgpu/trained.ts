/** An epoch on WebGPU, with kNN, that goes on on the CPU: `trained FOLDER`, which has images of classes in images/. */
import { join } from "node:path";
import { type TrainResult, train } from "../../../src/api/train.ts";
import type { Script } from "./runner.ts";

export type Trained = TrainResult;

export const trained: Script = async function* ([folder = ""]) {
  const [data, out] = [join(folder, "images"), join(folder, "run")];
  const small = { encoder: "resnet20", imageSize: 8, batch: 2, steps: 2, lr: 0.05, threads: 1 } as const;
  yield await train({ ...small, data, out, provider: "webgpu", knnData: data });
  yield await train({ out, resume: true, provider: "cpu", extendSteps: 1 });
};
