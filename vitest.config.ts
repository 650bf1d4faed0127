import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    // Tests that start a compiler or train a network are slower than the five seconds that are the default.
    testTimeout: 60_000,
  },
});
