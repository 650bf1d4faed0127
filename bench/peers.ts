/** What takes part: fovea, and the peers that bench/requirements.txt installs. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Peer } from "./compare.js";
import type { Program } from "./party.js";

const directory = fileURLToPath(new URL(".", import.meta.url));
const binary = process.platform === "win32" ? ["Scripts", "python.exe"] : ["bin", "python"];

/** The interpreter that the documented command installs the peers for. */
export const defaultPython = join(directory, ".venv", ...binary);

export const installCommand = "python3 -m venv bench/.venv && bench/.venv/bin/pip install -r bench/requirements.txt";

export const peerNames = ["PyTorch", "onnxruntime"] as const;

/** fovea on its best instruction set, or on one. */
export function fovea(isa: string | undefined): Program {
  return {
    name: "fovea",
    command: process.execPath,
    args: ["--import", "tsx", join(directory, "peers", "fovea_peer.ts")],
    ...(isa !== undefined && { environment: { FOVEA_ISA: isa } }),
  };
}

/** PyTorch and onnxruntime, which may be held to AVX2 on a machine that has more. */
export function peers(python: string, isa: "avx2" | undefined): Peer[] {
  const held = (environment: Record<string, string>) => isa === "avx2" && { environment };
  const torch = { ATEN_CPU_CAPABILITY: "avx2", ONEDNN_MAX_CPU_ISA: "AVX2", MKL_ENABLE_INSTRUCTIONS: "AVX2" };
  const script = (name: string): string[] => ["-W", "ignore", join(directory, "peers", name)];
  return [
    { name: "PyTorch", command: python, args: script("torch_peer.py"), trains: true, ...held(torch) },
    {
      name: "onnxruntime",
      command: python,
      args: script("onnxruntime_peer.py"),
      trains: false,
      ...held({ FOVEA_BENCH_PEER_ISA: "avx2" }),
    },
  ];
}

/** Why the peers cannot run, and how to install them; undefined where there is a Python for them. */
export function missingPython(python: string): string | undefined {
  if (existsSync(python)) return undefined;
  return `PyTorch and onnxruntime are left out, there is no ${python}. They install by: ${installCommand}`;
}
