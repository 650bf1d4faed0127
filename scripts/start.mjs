// npm start: LeNet-5 learns MNIST, each time in a new directory under runs/.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { root, runNode } from "./command.mjs";

let run = 1;
while (existsSync(join(root, "runs", `lenet5-${run}`))) run += 1;
runNode("dist/cli/main.js", ["train", "lenet5", "--data", "mnist", "--out", `runs/lenet5-${run}`]);
