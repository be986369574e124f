/** feed-worker.ts from its source, where the project is developed: on Node 20 tsx does not reach other threads by itself. */
import { register } from "tsx/esm/api";

register();
await import("./feed-worker.ts");
