"""onnxruntime on the CPU as a peer: see protocol.py for what it reads and writes. Inference only.

The network is PyTorch's, exported by models.py in a process of its own, so that this one never loads torch, and kept in
bench/.cache. The batch size is fixed when the session is made, as if the network had been exported for it. Input and
output stay bound to memory that onnxruntime owns: a call copies nothing.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy

from hold_onnxruntime import held_to_avx2
from protocol import serve

CACHE = Path(__file__).parent.parent / ".cache"

if os.environ.get("FOVEA_BENCH_PEER_ISA") == "avx2":
    sys.path.insert(0, held_to_avx2(CACHE))
import onnxruntime  # noqa: E402 (which one is decided above)


def prepare(request):
    if request.mode != "infer":
        raise ValueError("Expected the mode infer: onnxruntime does not train.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_free_dimension_override_by_name("batch", request.batch)
    options.add_session_config_entry("session.set_denormal_as_zero", "1")  # as PyTorch and fovea do here
    session = onnxruntime.InferenceSession(exported(request.model), options, providers=["CPUExecutionProvider"])
    shape = [request.batch, *session.get_inputs()[0].shape[1:]]
    x = numpy.random.default_rng(0).random(shape, dtype=numpy.float32)
    return {"io binding": lambda: bound(session, x), "arrays": lambda: lambda: session.run(["y"], {"x": x})}


def bound(session, x):
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    shape = [x.shape[0], *session.get_outputs()[0].shape[1:]]
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, numpy.float32))
    return lambda: session.run_with_iobinding(binding)


def exported(model):
    """Path of the network as ONNX, which is written once for a version of torch."""
    path = CACHE / f"{model}-torch{version('torch')}.onnx"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        script = Path(__file__).with_name("models.py")
        command = [sys.executable, "-W", "ignore", str(script), model, str(unfinished)]
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode != 0:
            unfinished.unlink(missing_ok=True)
            raise RuntimeError(finished.stderr.strip().splitlines()[-1])
        unfinished.rename(path)
    return str(path)


if __name__ == "__main__":
    serve(f"onnxruntime {onnxruntime.__version__}", prepare)
