"""Makes onnx_models.safetensors: small networks exported by PyTorch in several ways, with what PyTorch computes.

    python tests/golden/onnx_models.py        (torch, numpy, onnx, onnxscript and safetensors)

For each network NAME.OPSET.model (the bytes of the file), NAME.OPSET.x and NAME.OPSET.y. The exporter that traces writes
operators of version 9 to 17 and knows no newer ones, the other one writes 18 and newer.
"""

import io
from pathlib import Path

import numpy
import torch
from safetensors.numpy import save_file
from torch import nn

FOLDER = Path(__file__).resolve().parent


class SqueezeExcitation(nn.Module):
    """A block of MobileNetV3 with its gates as dense layers, and a shape computed from the image's."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.gate = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Hardsigmoid())
        self.slope = nn.PReLU(8)
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        x = self.depthwise(self.expand(x))
        gate = self.gate(x.mean((2, 3))).view(x.size(0), 8, 1, 1)
        x = self.slope(x * gate)
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        return self.last(x.view(x.size(0), -1))


class Shortcut(nn.Module):
    """Down and up again, with a shortcut around; images come out."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = nn.Conv2d(9, 2, 1)

    def forward(self, x):
        low = self.down(x)
        x = torch.cat([x, self.up(low), self.enlarge(low)], 1)
        return torch.sigmoid(self.last(x)) * 2 - 1


class Padded(nn.Module):
    """Zeros around pixels and behind channels, and distances from codes; there is no layer of its own for either."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 5, 3)
        self.second = nn.Conv2d(7, 3, 2)
        self.register_buffer("codes", torch.randn(4, 3 * 6 * 7))

    def forward(self, x):
        x = nn.functional.pad(self.first(x), (1, 2, 0, 3))
        x = nn.functional.pad(x, (0, 0, 0, 0, 0, 2))
        x = self.second(x).flatten(1)
        return -((x[:, None] - self.codes) ** 2).sum(2)


class Normalised(nn.Module):
    """Local response normalisation of windows that have a middle, and of ones that have none."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 5, 3)
        self.odd = nn.LocalResponseNorm(3, alpha=0.5, beta=0.75, k=2)
        self.even = nn.LocalResponseNorm(4, alpha=0.3, beta=0.5)

    def forward(self, x):
        return self.even(self.odd(self.first(x)))


def without_notes(model):
    """The bytes of a model less its exporter's notes, which name the folders of the machine that it ran on."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model.SerializeToString()


NETWORKS = {
    "squeeze": (SqueezeExcitation, (3, 6, 5)),
    "shortcut": (Shortcut, (2, 6, 8)),
    "padded": (Padded, (2, 6, 7)),
    "normalised": (Normalised, (2, 6, 7)),
}


def main():
    tensors = {}
    for seed, (name, (network, shape)) in enumerate(NETWORKS.items()):
        torch.manual_seed(seed)
        model = network().eval()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.uniform_(-0.5, 0.5)
                    module.running_var.uniform_(0.5, 2)
                    module.weight.uniform_(0.5, 2)
        x = torch.randn(2, *shape)
        y = model(x).detach()
        for opset in (9, 11, 13, 17, 18, 20):
            if name == "squeeze" and opset < 13:
                continue  # this exporter has no hard swish before
            if name == "normalised" and 9 < opset < 18:
                continue  # nor a squeeze that does not ask for the length first, by an If
            file = io.BytesIO()
            if opset < 18:
                axes = {"x": {0: "batch"}}
                torch.onnx.export(
                    model, (x,), file, dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes
                )
            else:
                batch = {"x": {0: torch.export.Dim("batch")}}
                program = torch.onnx.export(model, (x,), opset_version=opset, dynamic_shapes=batch, input_names=["x"])
                file.write(without_notes(program.model_proto))
            case = f"{name}.{opset}"
            tensors[f"{case}.model"] = numpy.frombuffer(file.getvalue(), numpy.uint8)
            tensors[f"{case}.x"], tensors[f"{case}.y"] = x.numpy(), y.numpy()
    path = FOLDER / "onnx_models.safetensors"
    save_file(tensors, path)
    print(f"{path.name}: {len(tensors) // 3} networks, {path.stat().st_size} bytes")


main()
