import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/directory.js";

const execute = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = temporaryDirectory();
const [app, programs, packed] = [join(folder, "app"), join(folder, "programs"), join(folder, "packed")] as const;
const installed = join(app, "node_modules", "fovea");
let tarball: string;

/** Runs npm or Node in the app's folder, with nothing else but a shell on the PATH: no cargo above all. */
async function inApp(program: "npm" | "npx" | "node", ...args: string[]): Promise<string> {
  // What npm tells the scripts that it runs is about this repository; the app is another package.
  const inherited = Object.entries(process.env).filter(([name]) => !/^npm_(?!config_(registry|cache)$)/.test(name));
  const env = { ...Object.fromEntries(inherited), PATH: programs };
  return (await execute(join(programs, program), args, { cwd: app, env })).stdout;
}

async function packAndInstall(): Promise<void> {
  await Promise.all([app, programs, packed].map((path) => mkdir(path)));
  await symlink(process.execPath, join(programs, "node"));
  for (const name of ["npm", "npx", "sh"]) {
    const { stdout } = await execute("sh", ["-c", `command -v ${name}`]);
    await symlink(stdout.trim(), join(programs, name));
  }
  // npm pack's own scripts would build again what other tests are just using.
  await execute(process.execPath, [join(root, "scripts/prebuild.mjs"), "--if-stale"]);
  await execute("npm", ["pack", "--ignore-scripts", "--pack-destination", packed], { cwd: root });
  const [name = ""] = await readdir(packed);
  tarball = join(packed, name);
  await writeFile(join(app, "package.json"), '{ "private": true, "type": "module" }');
  await inApp("npm", "install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", tarball);
}

describe("the published package", () => {
  beforeAll(packAndInstall, 600_000);

  test("holds what runs and nothing that would build at installation", async () => {
    const files = await readdir(installed);
    expect(files.sort()).toEqual(["LICENSE", "README.md", "dist", "index.d.ts", "package.json", "prebuilds"]);
    const { scripts = {} } = JSON.parse(await readFile(join(installed, "package.json"), "utf8"));
    expect(Object.keys(scripts)).not.toEqual(expect.arrayContaining([expect.stringMatching(/^(pre|post)?install$/)]));
    expect((await stat(tarball)).size).toBeLessThan(20e6);
  });

  test("runs a small program", async () => {
    const program = `
      import { datasets, input, model } from "fovea";
      const network = model(input(6, 6, 1), (x) => x.conv(4, 3).relu().flatten().dense(2));
      const images = Float32Array.from({ length: 8 * 36 }, (_, index) => (Math.floor(index / 36) % 2 ? 1 : -1));
      const train = datasets.fromArrays(images, [8, 6, 6, 1], [0, 1, 0, 1, 0, 1, 0, 1]);
      await network.fit(train, { epochs: 30, batchSize: 4 });
      console.log((await network.evaluate(train)).accuracy);
      await network.close();`;
    await writeFile(join(app, "program.js"), program);
    expect(await inApp("node", "program.js")).toBe("1\n");
  });

  test("finds its binary in prebuilds and everything in order", async () => {
    const report = JSON.parse(await inApp("npx", "--no-install", "fovea", "doctor", "--json"));
    const { version } = JSON.parse(await readFile(join(installed, "package.json"), "utf8"));
    expect(report).toMatchObject({
      ok: true,
      version,
      binary: expect.stringContaining(join("node_modules", "fovea", "prebuilds")),
    });
  });

  test("says what to do where it has no binary", async () => {
    const source = `import { doctor } from "fovea"; doctor().catch(({ code, message }) => console.log(code, message));`;
    const message = await inApp(
      "node",
      "--input-type=module",
      "--eval",
      `process.env.npm_config_arch = "mips"; ${source}`,
    );
    expect(message).toContain("NO_BINARY Expected a native binary for");
    expect(message).toContain("run `npm install` in a checkout");
  });
});
