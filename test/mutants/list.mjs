// Every mutant: a name, the edits that make it, and the tests that ought to see it. `peer` marks the 24 that were tried on
// Linux's own page-table suites; "missed" are the 16 that those suites do not see. Four have another form here: the RISC-V size
// code is AMD's; bytes mapped by a call that fails are a call that is begun though it must fail; 52-bit Arm addresses are not
// modelled, so that the highest bit lost is 47; our tables do not grow at the top, so that hardware which is not told of a new
// top table is a route which is not told of the table it now leads to.
import { FORMATS } from "./formats.mjs";
import { TABLES } from "./tables.mjs";
import { PASIDS } from "./pasids.mjs";
import { TRANSLATION } from "./translation.mjs";

export const MUTANTS = [...FORMATS, ...TABLES, ...TRANSLATION, ...PASIDS];
