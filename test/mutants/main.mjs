// `npm run mutants`: each mutant of the list is built and run against the tests that ought to see it.
// Exit codes: 0 all were killed, 1 one survived or cannot be applied, 2 usage.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { MUTANTS } from "./list.mjs";
import { MutantError, Workspace } from "./workspace.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

function jobs(text) {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1 || n > 64) throw new InvalidArgumentError("It must be an integer in 1..64.");
  return n;
}

async function judge(workspace, mutant) {
  try {
    workspace.apply(mutant.edits);
    const killer = await workspace.firstFailure(mutant.tests);
    return killer === null ? { verdict: "SURVIVED", detail: mutant.tests.join(" ") } : { verdict: "killed by", detail: killer };
  } catch (error) {
    if (!(error instanceof MutantError)) throw error;
    return { verdict: "NO MUTANT", detail: error.message };
  } finally {
    workspace.restore(mutant.edits);
  }
}

/** The unchanged project must pass every test that is about to kill. */
async function expectSound(workspace, mutants) {
  const tests = [...new Set(mutants.flatMap((mutant) => mutant.tests))];
  const missing = tests.filter((file) => file.endsWith(".test.ts") && !fs.existsSync(path.join(ROOT, file)));
  if (missing.length > 0) throw new Error(`no such test: ${missing.join(" ")}`);
  const failure = await workspace.firstFailure(tests);
  if (failure !== null) throw new Error(`without any mutant a test fails: ${failure}`);
}

async function main({ only, list, jobs: count }) {
  const mutants = MUTANTS.filter(({ name }) => only === undefined || name.includes(only));
  if (mutants.length === 0) throw new Error(`no mutant's name has ${JSON.stringify(only)}`);
  if (list) {
    for (const { name } of mutants) console.log(name);
    return;
  }
  const workspaces = Array.from({ length: Math.min(count, mutants.length) }, (_, i) => new Workspace(ROOT, `${ROOT}build/mutants/${i}`));
  await expectSound(workspaces[0], mutants);
  let [next, killed] = [0, 0];
  const work = async (workspace) => {
    while (next < mutants.length) {
      const mutant = mutants[next++];
      const { verdict, detail } = await judge(workspace, mutant);
      if (verdict === "killed by") killed++;
      console.log(`${mutant.name} -> ${verdict}: ${detail}`);
    }
  };
  await Promise.all(workspaces.map(work));
  console.log(`${killed} of ${mutants.length} mutants killed`);
  if (killed < mutants.length) process.exitCode = 1;
}

await new Command("mutants")
  .description("builds the engine with one defect at a time and runs the tests that ought to see it")
  .option("--only <words>", "mutants whose name has these words")
  .option("--list", "only name the mutants")
  .option("--jobs <n>", "mutants at a time", jobs, Math.max(1, Math.min(4, os.availableParallelism())))
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  .action(main)
  .parseAsync();
