import { defineConfig } from "vitest/config";

const setupFiles = ["test/setup.ts"];

export default defineConfig({
  test: {
    // CI closes with the counts of this file (.ci/run).
    reporters: process.env["CI"] ? ["default", ["json", { outputFile: "build/vitest.json" }]] : ["default"],
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], setupFiles } },
      { test: { name: "whole", include: ["test/whole/**/*.test.ts"], testTimeout: 120_000, setupFiles } },
      // Workers load the built package.
      { test: { name: "threads", include: ["test/threads/**/*.test.ts"], testTimeout: 120_000, setupFiles } },
      // npm run test:long; the properties with many more runs.
      { test: {
        name: "long", include: ["test/long/**/*.test.ts", "test/unit/**/*-property.test.ts"], testTimeout: 1_200_000, setupFiles,
        env: { IOASID_TEST: "long" },
      } },
      // npm run fuzz
      { test: { name: "fuzz", include: ["test/fuzz/**/*.fuzz.ts"], setupFiles } },
    ],
  },
});
