"""The networks that the peers time, by the names of `fovea zoo`.

    python bench/peers/models.py lenet5 1 lenet5.onnx     writes a network for this batch size as ONNX
"""

import sys

import torch
from torch import nn


class LeNet5(nn.Module):
    """Names and layers as `lenet5` in the zoo; 28 x 28 x 1 in, 10 logits out."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x).relu(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).relu(), 2)
        return self.fc3(self.fc2(self.fc1(x.flatten(1)).relu()).relu())


MODELS = {  # name: constructor, input (channels, height, width), classes
    "lenet5": (LeNet5, (1, 28, 28), 10),
}


def build(name):
    """The network, freshly initialised from seed 0, its input shape and its number of classes."""
    if name not in MODELS:
        raise ValueError(f'Expected one of {", ".join(MODELS)} for "model" but received {name}.')
    constructor, shape, classes = MODELS[name]
    torch.manual_seed(0)
    return constructor(), shape, classes


def export(name, batch, path):
    """Writes the network as ONNX for a fixed batch size; its input is called x, its output y."""
    network, shape, _ = build(name)
    x = torch.zeros(batch, *shape)
    torch.onnx.export(network.eval(), (x,), path, input_names=["x"], output_names=["y"], dynamo=False)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    export(sys.argv[1], int(sys.argv[2]), sys.argv[3])
