// `npm run fuzz -- --seconds n --seed s`: hostile tables in every format until the time is over. Seed s, s + 1, ... each decide
// one table, its geometry and what is asked of it; a failure names its seed, and that seed alone repeats it.
// Exit codes: 0 nothing found, 1 a difference, 2 usage.
import { spawnSync } from "node:child_process";
import { Command, InvalidArgumentError } from "commander";

function integer(least, most) {
  return (text) => {
    const n = Number(text);
    if (!Number.isInteger(n) || n < least || n > most) throw new InvalidArgumentError(`It must be an integer in ${least}..${most}.`);
    return n;
  };
}

const { seconds, seed, once } = new Command("npm run fuzz --")
  .description("walks random hostile tables, in one stage and in two, and compares every answer with the reference")
  .option("--seconds <n>", "how long", integer(1, 86_400), 30)
  .option("--seed <s>", "the first seed; default: from the clock", integer(0, 2 ** 31 - 1), Date.now() % 2 ** 30)
  .option("--once", "this seed alone, to repeat a failure")
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  .parse()
  .opts();

console.log(`${once ? "seed" : `${seconds} seconds from seed`} ${seed}`);
const { status } = spawnSync(process.execPath, ["node_modules/vitest/vitest.mjs", "run", "--project", "fuzz", "--reporter", "dot"], {
  stdio: "inherit",
  env: { ...process.env, IOASID_TEST: "fuzz", IOASID_FUZZ_SEED: String(seed), IOASID_FUZZ_SECONDS: once ? "0" : String(seconds) },
});
process.exitCode = status === 0 ? 0 : 1;
