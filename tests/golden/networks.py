"""The zoo as plain PyTorch: torchvision's own networks where it has them, the papers' written out where it has not.

Names of tensors are the zoo's, so that a `state_dict` of each fits.
"""

from functools import partial

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.googlenet import GoogLeNet as TorchvisionGoogLeNet
from torchvision.models.googlenet import Inception as TorchvisionInception
from torchvision.models.googlenet import InceptionAux


class LeNet5(nn.Module):
    """As taught today: ReLU, max-pooling, plain dense layers."""

    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        return self.fc3(self.fc2(self.fc1(x.flatten(1)).relu()).relu())


class LeNet51998(nn.Module):
    """LeNet-5 as printed in 1998; the output is minus the distance from each class's code."""

    SEEN = [  # Table I
        (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5),
        (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5), (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
    ]
    DIGITS = """
        ....... ....... ....... ....... ....... ....... ....... ....... ....... .......
        ..###.. ...#... ..###.. .#####. .....#. ####### ..####. ####### ..###.. ..###..
        .#...#. ..##... .#...#. .....#. ....##. #...... .#....# ......# .#...#. .#...#.
        #.....# .#.#... #.....# ....#.. ...#.#. #...... #...... ......# #.....# #.....#
        #.....# ...#... ......# ...#... ..#..#. #...... #...... .....#. #.....# #.....#
        #.....# ...#... .....#. ..####. .#...#. #####.. #.###.. .....#. .#...#. #.....#
        #.....# ...#... ....#.. ......# #....#. .....#. ##...#. ....#.. ..###.. .#...##
        #.....# ...#... ...#... ......# ####### ......# #.....# ....#.. .#...#. ..###.#
        #.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
        .#...#. ...#... .#..... #....#. .....#. #....#. .#...#. ...#... .#...#. .#....#
        ..###.. .#####. ####### .####.. .....#. .####.. ..###.. ..#.... ..###.. ..####.
        ....... ....... ....... ....... ....... ....... ....... ....... ....... .......
    """

    class Scale(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

        def forward(self, x):
            return F.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]

    def __init__(self, classes):
        super().__init__()
        self.c1, self.s2 = nn.Conv2d(1, 6, 5), self.Scale(6)
        self.c3, self.s4 = nn.Conv2d(6, 16, 5), self.Scale(16)
        self.c5, self.f6 = nn.Conv2d(16, 120, 5), nn.Linear(120, 84)
        mask = torch.zeros(16, 6, 1, 1)
        for filter, channels in enumerate(self.SEEN):
            mask[filter, list(channels)] = 1
        rows = [row.split() for row in self.DIGITS.split("\n") if row.strip()]
        pixels = ["".join(row[digit] for row in rows) for digit in range(classes)]
        codes = torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in code] for code in pixels])
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("codes", codes, persistent=False)

    @staticmethod
    def squash(x):
        return 1.7159 * (2 / 3 * x).tanh()

    def forward(self, x):
        x = self.squash(self.s2(self.squash(self.c1(F.pad(x, [(32 - x.shape[-1]) // 2] * 4)))))
        x = self.squash(self.s4(self.squash(F.conv2d(x, self.c3.weight * self.mask, self.c3.bias))))
        x = self.squash(self.f6(self.squash(self.c5(x)).flatten(1)))
        return -((x[:, None] - self.codes) ** 2).sum(2)


class AlexNet(nn.Module):
    """Krizhevsky 2012 as printed; 227 x 227. PyTorch's alpha is divided by the window's size, the paper's is not."""

    def __init__(self, classes):
        super().__init__()

        def norm():
            return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2)

        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), norm(), nn.MaxPool2d(3, 2),
            nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), norm(), nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, classes),
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class PlainConv(nn.Module):
    """A convolution with bias, and ReLU."""

    def __init__(self, channels, filters, **options):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, bias=True, **options)

    def forward(self, x):
        return self.conv(x).relu()


class Inception(TorchvisionInception):
    """With a window of 5 in the third branch, as printed; torchvision's has 3."""

    def __init__(self, *filters, conv_block=PlainConv):
        super().__init__(*filters, conv_block=conv_block)
        reduced, out = filters[4], filters[5]
        self.branch3[1] = conv_block(reduced, out, kernel_size=5, padding=2)


class Head(InceptionAux):
    """An auxiliary head whose pooling has windows of one size, as printed; torchvision's has a size to pool to."""

    def __init__(self, channels, classes, dropout, side):
        super().__init__(channels, classes, conv_block=PlainConv, dropout=dropout)
        pooled = (side // 16 - 5) // 3 + 1
        self.fc1 = nn.Linear(128 * pooled**2, 1024)

    def forward(self, x):
        x = self.conv(F.avg_pool2d(x, 5, stride=3)).flatten(1)
        return self.fc2(self.dropout(self.fc1(x).relu()))


class GoogLeNet(TorchvisionGoogLeNet):
    """Szegedy 2014 as printed: biases, local response normalisation, 3 x 3 in the last pooling; `side` of the images."""

    def __init__(self, classes, heads=False, side=224):
        blocks = [PlainConv, Inception, partial(Head, side=side)]
        super().__init__(classes, aux_logits=heads, init_weights=False, blocks=blocks)
        norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)
        self.maxpool1 = nn.Sequential(self.maxpool1, norm)
        self.maxpool2 = nn.Sequential(norm, self.maxpool2)
        self.maxpool4 = nn.MaxPool2d(3, stride=2, ceil_mode=True)


class CifarBlock(nn.Module):
    """Two 3 x 3 convolutions; where the shape changes, the shortcut is option A: every second pixel, zeros behind."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.stride, self.zeros = stride, filters - channels

    def forward(self, x):
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.zeros))
        return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + shortcut).relu()


class CifarResNet(nn.Module):
    """He 2015, section 4.2: three stages of `depth` blocks."""

    def __init__(self, depth, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(depth, 16, 16, 1)
        self.layer2 = self.stage(depth, 16, 32, 2)
        self.layer3 = self.stage(depth, 32, 64, 2)
        self.fc = nn.Linear(64, classes)

    @staticmethod
    def stage(depth, channels, filters, stride):
        rest = [CifarBlock(filters, filters, 1) for _ in range(depth - 1)]
        return nn.Sequential(CifarBlock(channels, filters, stride), *rest)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class MobileNet(nn.Module):
    """Howard 2017 with any width; with `separable` off the paper's comparison with full convolutions."""

    BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    """Filters of a block and stride of its 3 x 3 convolution."""

    def __init__(self, width, classes, separable=True):
        super().__init__()
        channels = round(32 * width)
        blocks = [nn.Sequential(*self.activated(nn.Conv2d(3, channels, 3, 2, 1, bias=False)))]
        for filters, stride in self.BLOCKS:
            filters = round(filters * width)
            if separable:
                depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
                convolutions = [depthwise, nn.Conv2d(channels, filters, 1, bias=False)]
            else:
                convolutions = [nn.Conv2d(channels, filters, 3, stride, 1, bias=False)]
            blocks.append(nn.Sequential(*(layer for each in convolutions for layer in self.activated(each))))
            channels = filters
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    @staticmethod
    def activated(convolution):
        return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


NETWORKS = {  # by the names of `fovea zoo`; each takes the number of classes, GoogLeNet also whether it has its heads
    "lenet5": LeNet5,
    "lenet5-1998": LeNet51998,
    "alexnet": AlexNet,
    "alexnet-torchvision": lambda classes: torchvision.models.alexnet(num_classes=classes),
    "googlenet": GoogLeNet,
    "googlenet-torchvision": lambda classes, heads=False: TorchvisionGoogLeNet(
        classes, aux_logits=heads, init_weights=False
    ),
    **{
        name: lambda classes, name=name: getattr(torchvision.models, name)(num_classes=classes)
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    },
    **{
        f"resnet{6 * depth + 2}": lambda classes, depth=depth: CifarResNet(depth, classes)
        for depth in (3, 5, 7, 9, 18)
    },
    "mobilenet": lambda classes: MobileNet(1, classes),
    **{f"mobilenet-{width}": lambda classes, width=width: MobileNet(width, classes) for width in (0.75, 0.5, 0.25)},
    "conv-mobilenet": lambda classes: MobileNet(1, classes, separable=False),
}
