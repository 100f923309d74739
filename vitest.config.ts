import { defineConfig } from "vitest/config";

const setupFiles = ["test/setup.ts"];

export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], setupFiles } },
      { test: { name: "whole", include: ["test/whole/**/*.test.ts"], testTimeout: 120_000, setupFiles } },
    ],
  },
});
