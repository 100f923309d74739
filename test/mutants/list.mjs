// Every mutant: a name, the edits that make it, and the tests that ought to see it. `peer` marks the 24 that were tried on
// Linux's own page-table suites; "missed" are the 16 that those suites do not see. The RISC-V one is AMD's coded size here.
import { FORMATS } from "./formats.mjs";
import { TABLES } from "./tables.mjs";
import { TRANSLATION } from "./translation.mjs";

export const MUTANTS = [...FORMATS, ...TABLES, ...TRANSLATION];
