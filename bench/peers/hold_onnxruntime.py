"""A copy of onnxruntime that believes the operating system not to keep AVX-512 registers, and so computes with AVX2.

onnxruntime has no switch for its instruction set. It asks two things before it uses AVX-512: CPUID, which a program cannot
change, and XGETBV, whose answer says which registers the system saves. In the copy each XGETBV is replaced with
`push 7; pop rax`, of the same three bytes: x87, SSE and AVX registers are kept, AVX-512's are not. Where it looks just so
no kernel for AVX-512 is chosen, and nothing else changes.
"""

import importlib.util
import re
import shutil
from importlib.metadata import version
from pathlib import Path

# XGETBV with the register number 0 set before it, or with the two halves of its answer joined after it.
XGETBV = re.compile(rb"(?<=\x31\xc9)\x0f\x01\xd0|\x0f\x01\xd0(?=\x89\xc0\x48\xc1\xe2\x20)", re.DOTALL)
PUSH_7_POP_RAX = b"\x6a\x07\x58"


def held_to_avx2(cache):
    """The directory to import the copy from; it is made once for a version of onnxruntime."""
    directory = cache / f"onnxruntime-{version('onnxruntime')}-avx2"
    if not directory.exists():
        unfinished = directory.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        package = Path(importlib.util.find_spec("onnxruntime").origin).parent
        shutil.copytree(package, unfinished / "onnxruntime", symlinks=True)
        replaced = sum(replace(library) for library in (unfinished / "onnxruntime" / "capi").glob("*.so*"))
        if replaced == 0:
            raise RuntimeError("Expected XGETBV in onnxruntime's libraries but found none.")
        unfinished.rename(directory)
    return str(directory)


def replace(library):
    """Replaces every XGETBV of a library and returns their number."""
    held, count = XGETBV.subn(PUSH_7_POP_RAX, library.read_bytes())
    library.write_bytes(held)
    return count
