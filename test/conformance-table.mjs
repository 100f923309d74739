// `npm run conformance`: the conformance suite as a table, a row a format, a column a case: geometries passed of geometries run.
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import Table from "cli-table3";

const REPORT = "build/conformance.json";
fs.rmSync(REPORT, { force: true });
const vitest = ["node_modules/vitest/vitest.mjs", "run", "--project", "unit", "--reporter", "json", "--outputFile", REPORT, "test/unit/conformance.test.ts"];
const { status } = spawnSync(process.execPath, vitest, { stdio: ["ignore", "ignore", "inherit"] });
const results = JSON.parse(fs.readFileSync(REPORT, "utf8")).testResults.flatMap((file) => file.assertionResults);

/** The family is what a geometry's name begins with: all but the levels and the widths. */
const familyOf = (geometry) => geometry.replace(/, \d+ levels.*$/, "");
const families = new Map();
const cases = [];
for (const { ancestorTitles: [group], title, status: outcome } of results) {
  const past = group.startsWith("past bugs");
  const [family, name] = past ? [familyOf(title), "past bugs"] : [familyOf(group), title];
  if (!cases.includes(name)) cases.push(name);
  if (!families.has(family)) families.set(family, new Map());
  const counts = families.get(family);
  const [passed, run] = counts.get(name) ?? [0, 0];
  counts.set(name, [passed + (outcome === "passed" ? 1 : 0), run + 1]);
}
const table = new Table({ head: ["format", "geometries", ...cases], style: { head: [], border: [] } });
for (const [family, counts] of families) {
  const cells = cases.map((name) => counts.get(name)?.join("/") ?? "");
  table.push([family, String(counts.get(cases[0])[1]), ...cells]);
}
console.log(table.toString());
console.log(`${results.filter(({ status: outcome }) => outcome === "passed").length} of ${results.length} passed`);
process.exitCode = status === 0 ? 0 : 1;
