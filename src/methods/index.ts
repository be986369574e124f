/** All methods by name. */
import { named } from "../errors.ts";
import { audioVideo } from "./audio-video.ts";
import { barlowTwins } from "./barlow-twins.ts";
import { byol } from "./byol.ts";
import { cpc } from "./cpc.ts";
import { dino } from "./dino.ts";
import { fcos } from "./fcos.ts";
import { finetune } from "./finetune.ts";
import { instanceDiscrimination } from "./instance-discrimination.ts";
import { jigsaw } from "./jigsaw.ts";
import type { Method } from "./method.ts";
import { moco } from "./moco.ts";
import { pirl } from "./pirl.ts";
import { relativePosition } from "./relative-position.ts";
import { rotation } from "./rotation.ts";
import { simclr } from "./simclr.ts";
import { similarity } from "./similarity.ts";
import { simsiam } from "./simsiam.ts";
import { swav } from "./swav.ts";
import { vicreg } from "./vicreg.ts";

export type { Method } from "./method.ts";

/** Those that learn without labels. */
// biome-ignore lint/suspicious/noExplicitAny: each method has a configuration of its own
export const methods: readonly Method<any>[] = [
  audioVideo,
  barlowTwins,
  byol,
  cpc,
  dino,
  instanceDiscrimination,
  jigsaw,
  moco,
  pirl,
  relativePosition,
  rotation,
  simclr,
  similarity,
  simsiam,
  swav,
  vicreg,
];

/** Those that learn from labels, which are named by what asks for them alone. */
// biome-ignore lint/suspicious/noExplicitAny: as above
export const supervised: readonly Method<any>[] = [fcos, finetune];

// biome-ignore lint/suspicious/noExplicitAny: as above
export const methodNamed = (name: string): Method<any> =>
  supervised.find((method) => method.name === name) ?? named("method", name, methods);
