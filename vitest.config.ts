import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  // The examples of docstrings and README import what users import.
  resolve: { alias: { fovea: fileURLToPath(new URL("src/index.ts", import.meta.url)) } },
  test: {
    include: ["tests/**/*.test.ts"],
    globalSetup: "tests/support/build.ts",
    // Tests that start a compiler or train a network are slower than the five seconds that are the default.
    testTimeout: 60_000,
  },
});
