"""Makes the conformance cases of this folder from the `onnx` package's backend node tests; run once, they are committed.

    python tests/conformance/make.py        (onnx, numpy and safetensors as in bench/requirements.txt)

A node test has one operator, all of whose inputs are inputs of the model. Networks have one input, so the first stays one
and the others become constants. Operator versions above 22 are written as 22, which means the same for the types that
are left. node_tests.safetensors holds for each case NAME.model (the bytes of the file) and, where input and result
are f32 and the input has at most four dimensions, NAME.x and NAME.y.

node_tests.txt says which cases are supported, and why the others are not. The test that runs them
(crates/engine/tests/onnx_conformance.rs) compares with it and writes what it finds beside it in target/.
"""

from pathlib import Path

import numpy
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from safetensors.numpy import save_file

FOLDER = Path(__file__).resolve().parent
NEWEST = 22
OPERATORS = """
    Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization LRN Gemm MatMul Add Mul Sub Div
    Concat Flatten Reshape Squeeze Unsqueeze Transpose Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Softmax
    LogSoftmax Dropout Identity Constant Pad ReduceMean Resize Cast
""".split()


def with_constants(model, inputs):
    """The model with all inputs but the first as initializers, its operators of version 22 at most."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for name, value in list(zip((each.name for each in model.graph.input), inputs))[1:]:
        if isinstance(value, numpy.ndarray | numpy.generic):
            model.graph.initializer.append(numpy_helper.from_array(numpy.asarray(value), name))
    constants = {each.name for each in model.graph.initializer}
    kept = [each for each in model.graph.input if each.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for opset in model.opset_import:
        opset.version = min(opset.version, NEWEST)
    model.producer_name = model.doc_string = ""
    return model


def main():
    tensors = {}
    count = 0
    for case in sorted(collect_testcases(None), key=lambda case: case.name):
        operators = [node.op_type for node in case.model.graph.node]
        if len(operators) != 1 or operators[0] not in OPERATORS:
            continue
        inputs, outputs = case.data_sets[0]
        count += 1
        model = with_constants(case.model, inputs).SerializeToString()
        tensors[f"{case.name}.model"] = numpy.frombuffer(model, numpy.uint8)
        arrays = [inputs[0], outputs[0]] if inputs else []
        floats = all(isinstance(each, numpy.ndarray) and each.dtype == numpy.float32 for each in arrays)
        if arrays and floats and arrays[0].ndim <= 4:
            x, y = arrays
            tensors[f"{case.name}.x"] = numpy.ascontiguousarray(x)
            tensors[f"{case.name}.y"] = numpy.ascontiguousarray(y)
    path = FOLDER / "node_tests.safetensors"
    save_file(tensors, path)
    print(f"{path.name}: {count} cases of onnx {onnx.__version__}, {path.stat().st_size} bytes")


main()
