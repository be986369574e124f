/**
 * Imported before all else. V8 optimises functions that have run for a while, on threads of its own. At the start
 * many functions run for a while, and the runtime has work for every core, so V8 is told to wait longer. What runs
 * for long is compiled a few milliseconds later.
 */
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--interrupt-budget=1000000"); // bytes of bytecode; 67,584 by default
