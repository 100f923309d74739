// Every query of every vector file and table image through the reference walker (test/vectors/README.md).
import { readdirSync } from "node:fs";
import { expect, it } from "vitest";
import { compareFile } from "../oracle/vectors/compare.js";
import { loadVectors } from "../oracle/vectors/file.js";

const FOLDER = new URL("../vectors/", import.meta.url);
let compared = 0;

it.each(readdirSync(FOLDER).filter((name) => name.endsWith(".json.gz")))("%s: no difference in any query", (name) => {
  const { different, queries } = compareFile(loadVectors(new URL(name, FOLDER)));
  expect(different).toEqual([]);
  compared += queries;
});

it("has asked them all", () => {
  expect(compared).toBe(527678 + 10920);
});
