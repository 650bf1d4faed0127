// npm install in a checkout runs this: the addon, then the TypeScript. Quick when nothing changed.

import { runNode } from "./command.mjs";

runNode("scripts/build-addon.mjs");
runNode("node_modules/typescript/bin/tsc", ["-p", "tsconfig.build.json"]);
