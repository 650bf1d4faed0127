"""The networks that the peers time, by the names of `fovea zoo`.

    python bench/peers/models.py lenet5 lenet5.onnx     writes a network as ONNX, for any batch size
"""

import sys

import torch
import torchvision
from torch import nn

AUXILIARY_WEIGHT = 0.3
"""What the loss of each of GoogLeNet's auxiliary heads counts in training."""

BATCH = "batch"
"""Name of the first dimension of an exported network's input and output."""


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


class MobileNet(nn.Module):
    """MobileNet v1 of width 1 (Howard 2017), names as in the zoo; 224 x 224 x 3 in, 1000 logits out."""

    BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    """Filters of the pointwise convolution and stride of the depthwise one."""

    def __init__(self):
        super().__init__()
        layers = [self.activated(nn.Conv2d(3, 32, 3, 2, 1, bias=False), 32)]
        channels = 32
        for filters, stride in self.BLOCKS:
            depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
            pointwise = nn.Conv2d(channels, filters, 1, bias=False)
            layers.append(nn.Sequential(*self.activated(depthwise, channels), *self.activated(pointwise, filters)))
            channels = filters
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1000)

    @staticmethod
    def activated(convolution, channels):
        return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


IMAGE = (3, 224, 224)

MODELS = {  # name: constructor, input (channels, height, width), classes
    "lenet5": (LeNet5, (1, 28, 28), 10),
    "alexnet-torchvision": (torchvision.models.alexnet, IMAGE, 1000),
    # Its own initialisation takes seconds and changes no time of a step.
    "googlenet-torchvision": (lambda: torchvision.models.googlenet(init_weights=False), IMAGE, 1000),
    "resnet18": (torchvision.models.resnet18, IMAGE, 1000),
    "resnet50": (torchvision.models.resnet50, IMAGE, 1000),
    "mobilenet": (MobileNet, IMAGE, 1000),
}


def build(name):
    """The network, freshly initialised from seed 0, its input shape and its number of classes."""
    if name not in MODELS:
        raise ValueError(f'Expected one of {", ".join(MODELS)} for "model" but received {name}.')
    constructor, shape, classes = MODELS[name]
    torch.manual_seed(0)
    return constructor(), shape, classes


def export(name, path):
    """Writes the network as ONNX; its input is called x, its output y, and the batch is left open."""
    network, shape, _ = build(name)
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: BATCH}, "y": {0: BATCH}}}
    torch.onnx.export(network.eval(), (torch.zeros(2, *shape),), path, dynamo=False, **names)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    export(sys.argv[1], sys.argv[2])
