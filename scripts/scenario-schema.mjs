// Writes docs/scenario.schema.json from the schema that the built reader uses: one source for the reader and for editors.
import fs from "node:fs";
import { SCHEMA } from "../dist/scenario/schema.js";

fs.writeFileSync("docs/scenario.schema.json", `${JSON.stringify(SCHEMA, null, 2)}\n`);
