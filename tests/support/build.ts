import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Before any test: the command line that tests start is compiled from the sources that are tested. */
export default function build(): void {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const compiler = ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"];
  execFileSync(process.execPath, compiler, { cwd: root, stdio: "inherit" });
}
