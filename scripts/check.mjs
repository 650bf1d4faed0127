// Everything that must hold, in the order in which a person wants to hear of it: `npm test`.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { requireCargo, root, run, runNode } from "./command.mjs";

requireCargo();
const started = Date.now();
const seconds = () => ((Date.now() - started) / 1000).toFixed(0);

/** Says what comes next and when, so that a slow step shows in a log. */
function step(name, work) {
  console.log(`\n[${seconds()} s] ${name}`);
  work();
}

step("Rust format", () => run("cargo", ["fmt", "--all", "--check"]));
step("Rust lint", () => run("cargo", ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
step("Addon and TypeScript build", () => runNode("scripts/prepare.mjs"));
step("Generated declarations are committed", () => {
  if (existsSync(join(root, ".git"))) run("git", ["diff", "--exit-code", "--", "index.d.ts"]);
});
step("TypeScript types", () => runNode("node_modules/typescript/bin/tsc", ["--noEmit"]));
step("TypeScript format and lint", () =>
  runNode("node_modules/@biomejs/biome/bin/biome", ["check", "--diagnostic-level=warn"]),
);
step("Rust tests", () => run("cargo", ["test", "--workspace"]));
step("TypeScript tests", () => runNode("node_modules/vitest/vitest.mjs", ["run"]));
console.log(`\nEverything holds, ${seconds()} s.`);
