// Vitest setup: every engine that a test makes is watched by the oracles, and checked in full after each test.
// IOASID_ORACLE=off switches them off, for measurements.
import { afterEach } from "vitest";
import { Engine } from "../src/engine/engine.js";
import { Port } from "../src/engine/port.js";
import { checkTouched, instrument, instrumentPorts } from "./oracle/instrument.js";

if (process.env["IOASID_ORACLE"] !== "off") {
  instrument(Engine.prototype);
  instrumentPorts(Port.prototype);
  afterEach(checkTouched);
}

// A mutant is killed by the first example that fails; making it smaller would only take time.
if (process.env["IOASID_TEST"] === "mutants") (await import("fast-check")).default.configureGlobal({ endOnFailure: true });
