"""onnxruntime on the CPU as a peer: see protocol.py for what it reads and writes. Inference only.

The network is PyTorch's, exported by models.py in a process of its own, so that this one never loads torch. Input and
output stay bound to memory that onnxruntime owns: a call copies nothing.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnxruntime

from protocol import serve


def prepare(request):
    if request.mode != "infer":
        raise ValueError("Expected the mode infer: onnxruntime does not train.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        export(request, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = numpy.random.default_rng(0).random(session.get_inputs()[0].shape, dtype=numpy.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(session.get_outputs()[0].shape, numpy.float32)
    binding.bind_ortvalue_output("y", output)
    return {
        "io binding": lambda: session.run_with_iobinding(binding),
        "arrays": lambda: session.run(["y"], {"x": x}),
    }


def export(request, path):
    script = Path(__file__).with_name("models.py")
    command = [sys.executable, "-W", "ignore", str(script), request.model, str(request.batch), path]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        raise RuntimeError(finished.stderr.strip().splitlines()[-1])


if __name__ == "__main__":
    serve(f"onnxruntime {onnxruntime.__version__}", prepare)
