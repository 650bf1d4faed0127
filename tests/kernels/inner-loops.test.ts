import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { kernelsOf } from "../../scripts/inner-loops.js";
import { startProgram } from "../support/command-line.js";

const folder = mkdtempSync(join(tmpdir(), "fovea-listing-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Function {
  readonly set: string;
  readonly kernel: string;
  readonly code: string;
}

/** What objdump prints of some functions; an instruction's address is ten times its line's number from 1000 on. */
function listing(functions: readonly Function[], format = "elf64-x86-64"): string {
  const places = functions.map((one, index) => ({ ...one, address: 0x1000 * (index + 1) }));
  const information = places.map(
    ({ kernel, address }, index) => ` <1><${index}a>: Abbrev Number: 3 (DW_TAG_subprogram)
    <${index}b>   DW_AT_low_pc      : 0x${address.toString(16)}
    <${index}c>   DW_AT_high_pc     : 0xcf9
    <${index}d>   DW_AT_name        : (indirect string, offset: 0x13ca88): inner<fovea_kernels::${kernel}>`,
  );
  const code = places.map(({ set, code, address }) => {
    const symbol = `<<fovea_kernels::simd::${set}::One as fovea_kernels::simd::Simd>::enter::inner>`;
    const at = (line: number) => (address + 16 * line).toString(16);
    const lines = code.trim().split("\n");
    const instructions = lines.map((text, line) => {
      const jump = text.trim().replace(/@(\d+)/, (_, target) => `${at(Number(target))} ${symbol.slice(0, -1)}+0x10>`);
      return `    ${at(line)}:\t${jump}`;
    });
    return `${address.toString(16).padStart(16, "0")} ${symbol}:\n${instructions.join("\n")}\n`;
  });
  return `addon:     file format ${format}\n\n${information.join("\n")}\n\n${code.join("\n")}`;
}

function loopsOf(code: string) {
  return kernelsOf(listing([{ set: "avx2", kernel: "conv2d::tile::product::Product<1, 2, 0>", code }]))[0]?.loops;
}

const clean = `
push   %rbp
mov    0x30(%rdi),%rbp
vmovups 0x0(%rbp),%ymm2
vbroadcastss (%rsi,%rax,4),%ymm3
vfmadd231ps %ymm2,%ymm3,%ymm0
vfmadd231ps 0x20(%rbp),%ymm3,%ymm1
vfmadd231ps %ymm2,%ymm3,%ymm4
vfmadd231ps %ymm2,%ymm3,%ymm5
add    $0x40,%rbp
jne    @2
ret`;

describe("the innermost loops of a disassembly", () => {
  test("a kernel has its set from the symbol and its name from the debug information", () => {
    const [kernel] = kernelsOf(
      listing([{ set: "avx512", kernel: "conv2d::tile::product::Product<14, 2, 0>", code: "ret" }]),
    );
    expect(kernel).toEqual({ set: "avx512", name: "conv2d::tile::product::Product<14, 2, 0>", loops: [] });
  });

  test("multiply-adds, loads and instructions of an iteration are counted, %rbp being a plain pointer", () => {
    expect(loopsOf(clean)).toEqual([{ instructions: 8, multiplyAdds: 4, loads: 3, stackLoads: 0, stackStores: 0 }]);
  });

  test("a vector that is spilled and fetched again counts as a store and a load of the stack", () => {
    const spilled = clean
      .replace("add    $0x40,%rbp", "vmovups %ymm5,-0x28(%rsp)")
      .replace("0x20(%rbp),%ymm3,%ymm1", "0x60(%rsp),%ymm3,%ymm1");
    expect(loopsOf(spilled)).toMatchObject([{ loads: 2, stackLoads: 1, stackStores: 1 }]);
  });

  test("%rbp counts as the stack where the function makes it the frame pointer", () => {
    const framed = clean.replace("mov    0x30(%rdi),%rbp", "mov    %rsp,%rbp");
    expect(loopsOf(framed)).toMatchObject([{ loads: 1, stackLoads: 2 }]);
  });

  test("a pointer that is fetched from the stack is no spilled vector", () => {
    expect(loopsOf(clean.replace("add    $0x40,%rbp", "mov    0x48(%rsp),%rbp"))).toMatchObject([{ stackLoads: 0 }]);
  });

  test("only the inner of two nested loops is given, and a jump back out of a loop makes none", () => {
    const nested = `
jmp    @3
vmovups %ymm0,(%rsp)
ret
vmovups (%rsp),%ymm2
vfmadd231ps %ymm1,%ymm2,%ymm3
dec    %rax
jne    @4
dec    %rbx
jne    @3
jmp    @1`;
    expect(loopsOf(nested)).toEqual([{ instructions: 3, multiplyAdds: 1, loads: 0, stackLoads: 0, stackStores: 0 }]);
  });

  test("NEON's multiply-adds by lane and its stack are known", () => {
    const code = `
ldp	q2, q3, [x1], #32
ldr	s4, [x2, x9]
fmla	v0.4s, v2.4s, v4.s[0]
str	q0, [sp, #16]
ldr	q1, [sp, #32]
cbnz	x9, @0
ret`;
    const kernel = { set: "neon", kernel: "conv2d::tile::product::Product<1, 2, 0>", code };
    expect(kernelsOf(listing([kernel], "elf64-littleaarch64"))[0]?.loops).toEqual([
      { instructions: 6, multiplyAdds: 1, loads: 2, stackLoads: 1, stackStores: 1 },
    ]);
  });
});

describe("the check of the kernels", () => {
  const four = clean.replaceAll("%ymm", "%zmm");
  const tiles = (product: string): Function[] => [
    { set: "avx2", kernel: "conv2d::tile::product::Product<2, 2, 0>", code: product },
    { set: "avx2", kernel: "conv2d::tile::reduction::Reduction<1, 2, 2>", code: clean },
    { set: "avx512", kernel: "conv2d::tile::product::Product<4, 1, 0>", code: four },
    { set: "avx512", kernel: "conv2d::tile::reduction::Reduction<1, 4, 1>", code: four },
  ];
  async function check(functions: readonly Function[]) {
    const file = join(folder, "listing.txt");
    writeFileSync(file, listing(functions));
    const script = fileURLToPath(new URL("../../scripts/check-kernels.ts", import.meta.url));
    return startProgram(process.execPath, ["--import", "tsx", script, "--listing", file]).outcome;
  }

  test("tiles on registers alone pass, in a table", async () => {
    const { exitCode, stdout, stderr } = await check(tiles(clean));
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^avx2 conv2d::tile::product::Product<2, 2, 0> +4 +8 +3 +0 +0$/m);
  });

  test("a tile that spills fails by name", async () => {
    const { exitCode, stderr } = await check(tiles(clean.replace("add    $0x40,%rbp", "vmovups %ymm5,-0x28(%rsp)")));
    expect([exitCode, stderr.trim()]).toEqual([
      1,
      "Expected an inner loop on registers but avx2 conv2d::tile::product::Product<2, 2, 0> touches the stack with 1 of 8 instructions.",
    ]);
  });

  test("another kernel may keep an eighth of its instructions' vectors on the stack, and no more", async () => {
    const once = clean.replace("add    $0x40,%rbp", "vmovups %ymm5,-0x28(%rsp)");
    const twice = once.replace("0x20(%rbp),%ymm3,%ymm1", "0x60(%rsp),%ymm3,%ymm1");
    const rows = { set: "avx2", kernel: "conv2d::depthwise_gather::Rows" };
    expect(await check([...tiles(clean), { ...rows, code: once }])).toMatchObject({ exitCode: 0 });
    const { exitCode, stderr } = await check([...tiles(clean), { ...rows, code: twice }]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("avx2 conv2d::depthwise_gather::Rows touches the stack with 2 of 8 instructions");
    // Winograd's transforms hold more: a quarter.
    const transform = { set: "avx2", kernel: "conv2d::winograd::TransformInput" };
    expect(await check([...tiles(clean), { ...transform, code: twice }])).toMatchObject({ exitCode: 0 });
  });

  test("a tile whose loops are not unrolled fails by name", async () => {
    const { exitCode, stderr } = await check(
      tiles(clean.replace(/(vfmadd.*\n){3}/, "vfmadd231ps %ymm2,%ymm3,%ymm0\n")),
    );
    expect(exitCode).toBe(1);
    expect(stderr).toContain("avx2 conv2d::tile::product::Product<2, 2, 0> has no loop of 4 multiply-adds");
  });

  test("a program without tiles of a set fails", async () => {
    const { exitCode, stderr } = await check(tiles(clean).filter(({ set }) => set === "avx2"));
    expect(exitCode).toBe(1);
    expect(stderr).toContain("of avx512");
  });
});
