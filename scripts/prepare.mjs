// npm install in a checkout runs this: the addon, then the TypeScript. Quick when nothing changed.

import "./build-addon.mjs";
import { runNode } from "./command.mjs";

runNode("node_modules/typescript/bin/tsc", ["-p", "tsconfig.build.json"]);
