import { defineConfig } from "vitest/config";

const setupFiles = ["test/setup.ts"];

export default defineConfig({
  test: {
    // CI closes with the counts of this file (.ci/run).
    reporters: process.env["CI"] ? ["default", ["json", { outputFile: "build/vitest.json" }]] : ["default"],
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], setupFiles } },
      { test: { name: "whole", include: ["test/whole/**/*.test.ts"], testTimeout: 120_000, setupFiles } },
      // npm run test:long
      ...(process.env["IOASID_TEST"] === "long" ? [{ test: { name: "long", include: ["test/long/**/*.test.ts"], testTimeout: 600_000, setupFiles } }] : []),
    ],
  },
});
