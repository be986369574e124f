/**
 * First of all: V8 compiles what has run for a while, on threads of its own. A start runs much for a while, and the runtime
 * has work for every core. What runs for long is compiled a few milliseconds later.
 */
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--interrupt-budget=1000000"); // bytes of bytecode; 67,584 by default
