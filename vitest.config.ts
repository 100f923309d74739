import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
import { chromiumPath } from "./scripts/chromium-path.mjs";

const setupFiles = ["test/setup.ts"];

/** Without them a page has no shared memory. */
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const chromiumArguments = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** The project that runs in Chromium; the browser is unpacked only when it is asked for. */
async function chromium() {
  const launchOptions = { executablePath: await chromiumPath(), args: chromiumArguments };
  return {
    server: { headers },
    test: {
      name: "chromium", include: ["test/browser/**/*.test.ts"], testTimeout: 120_000,
      browser: { enabled: true, headless: true, screenshotFailures: false, instances: [{ browser: "chromium" as const }], provider: playwright({ launchOptions }) },
    },
  };
}

const wanted = process.argv.includes("chromium") || process.argv.includes("--project=chromium");

export default defineConfig(async () => ({
  server: { headers },
  test: {
    // CI closes with the counts of this file (.ci/run).
    reporters: process.env["CI"] ? ["default", ["json", { outputFile: "build/vitest.json" }]] : ["default"],
    projects: [
      // A time limit catches what hangs; how fast a machine is must not decide.
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], testTimeout: 60_000, setupFiles } },
      { test: { name: "whole", include: ["test/whole/**/*.test.ts"], testTimeout: 120_000, setupFiles } },
      // Workers load the built package.
      { test: { name: "threads", include: ["test/threads/**/*.test.ts"], testTimeout: 120_000, setupFiles } },
      // npm run test:long; the properties with many more runs.
      { test: {
        name: "long", include: ["test/long/**/*.test.ts", "test/unit/**/*-property.test.ts"], testTimeout: 1_200_000, setupFiles,
        // After a test the oracles look at every engine that it made.
        hookTimeout: 1_200_000, env: { IOASID_TEST: "long" },
      } },
      ...wanted ? [await chromium()] : [],
      // npm run fuzz
      { test: { name: "fuzz", include: ["test/fuzz/**/*.fuzz.ts"], setupFiles } },
    ],
  },
}));
