"""Makes zoo_logits.safetensors and zoo_losses.safetensors with PyTorch; run once, the files are committed.

    python tests/golden/zoo.py [logits|losses]        (torch and torchvision as in bench/requirements.txt)

Weights and images are not in the files: both sides make them by the recipe of `uniform` and `recipe_weights` below, which
tests/support/recipe.ts repeats. Everything is computed in f64 and stored rounded to f32.

zoo_logits: one tensor NAME [images, classes] for each network of the zoo, outside training.

zoo_losses: CASE.losses [10], the mean over each batch before its update; CASE.final.TENSOR [8], the inner products of each
parameter and running statistic after the last update with the rows of `uniform("projections", 8, length)`: the root mean
square of their differences is, but for sqrt(3), the length of the difference of the tensors. "cases" says what was run.
"""

import json
import re
import sys
from pathlib import Path

import numpy
import torch
from networks import NETWORKS
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

FOLDER = Path(__file__).resolve().parent
PROJECTIONS = 8


def uniform(name, *shape):
    """Values in -1..1, exact in f32: value number i is the hash (MurmurHash3's finalizer) of FNV-1a(name) + i * 0x9E3779B9,
    of which the 24 upper bits count."""
    count = int(numpy.prod(shape))
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 % 2**32
    with numpy.errstate(over="ignore"):
        z = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(0x9E3779B9)
        z += numpy.uint32(seed)
        z = (z ^ (z >> numpy.uint32(16))) * numpy.uint32(0x85EBCA6B)
        z = (z ^ (z >> numpy.uint32(13))) * numpy.uint32(0xC2B2AE35)
        z ^= z >> numpy.uint32(16)
    values = (z >> numpy.uint32(8)).astype(numpy.float32) / numpy.float32(1 << 23) - numpy.float32(1)
    return values.reshape(shape)


def recipe_weights(network):
    """Weights of several dimensions are uniform(name) times sqrt(6 / fan in); vectors are uniform(name) / 5, the scales and
    variances of batch normalisation 1 more, and the scale that ends a residual branch a quarter of that, so that a
    hundred blocks do not run away."""
    tensors = {name: value for name, value in network.state_dict().items() if value.dtype.is_floating_point}
    ends = {}  # the last batch normalisation of each residual block
    for name in tensors:
        if block := re.match(r"(layer\d+\.\d+)\.bn\d\.weight", name):
            ends[block[1]] = name
    for name, tensor in tensors.items():
        values = uniform(name, *tensor.shape)
        if tensor.dim() > 1:
            values *= numpy.float32(numpy.sqrt(6 / tensor[0].numel()))
        else:
            values *= numpy.float32(0.2)
            if name.endswith(("weight", "running_var")):
                values += numpy.float32(1)
        if name in ends.values():
            values *= numpy.float32(0.25)
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(values))


def save(name, tensors, cases):
    arrays = {key: numpy.ascontiguousarray(numpy.asarray(value, dtype=numpy.float32)) for key, value in tensors.items()}
    path = FOLDER / f"{name}.safetensors"
    save_file(arrays, path, metadata={"cases": json.dumps(cases)})
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")


# name: images, height, width, channels, classes. At least one of each family has its own size; what reads any size is
# given few pixels, and unequal sides.
LOGITS = {
    "lenet5": (4, 28, 28, 1, 10),
    "lenet5-1998": (4, 28, 28, 1, 10),
    "alexnet": (1, 227, 227, 3, 1000),
    "alexnet-torchvision": (2, 224, 224, 3, 1000),
    "googlenet": (1, 224, 224, 3, 1000),
    "googlenet-torchvision": (1, 224, 224, 3, 1000),
    "resnet18": (1, 224, 224, 3, 1000),
    "resnet34": (2, 96, 64, 3, 100),
    "resnet50": (1, 224, 224, 3, 1000),
    "resnet101": (2, 64, 96, 3, 100),
    "resnet152": (1, 64, 96, 3, 100),
    "resnet20": (3, 32, 32, 3, 10),
    "resnet32": (2, 32, 32, 3, 10),
    "resnet44": (2, 32, 32, 3, 10),
    "resnet56": (2, 32, 32, 3, 10),
    "resnet110": (2, 32, 32, 3, 10),
    "mobilenet": (1, 224, 224, 3, 1000),
    "mobilenet-0.75": (2, 96, 160, 3, 100),
    "mobilenet-0.5": (2, 160, 128, 3, 100),
    "mobilenet-0.25": (2, 128, 128, 3, 1000),
    "conv-mobilenet": (1, 128, 96, 3, 100),
}


def make_logits():
    tensors, cases = {}, {}
    for name, (images, height, width, channels, classes) in LOGITS.items():
        network = NETWORKS[name](classes)
        recipe_weights(network)
        network.eval()
        x = torch.from_numpy(uniform("images", images, height, width, channels)).permute(0, 3, 1, 2)
        with torch.no_grad():
            single = network(x)
            logits = network.double()(x.double())
        error = ((single - logits).abs().max() / logits.abs().max()).item()
        apart = (logits.max(1).values - logits.min(1).values).min().item() / logits.abs().max().item()
        print(f"{name}: largest {logits.abs().max():.3g}, spread {apart:.2f}; PyTorch's f32 {error:.1e}", flush=True)
        assert error < 1e-5 and apart > 0.1
        tensors[name] = logits
        cases[name] = dict(images=images, input=[height, width, channels], classes=classes)
    save("zoo_logits", tensors, cases)


# A ReLU's derivative jumps at zero, a max-pooling's where two values are equal, and deep networks magnify what rounding
# makes of that: the rates are low, and where it helps most values are lifted above zero by `shift`, which is added to the
# shifts of batch normalisation. Without that, scores of GoogLeNet would be large, and so would the changes of a step: the
# last layers' weights are multiplied by `scores`. The scales of ten steps stay, as is asserted below. `heads` are GoogLeNet's
# auxiliary ones, whose losses count, too.
LOSSES = {
    "resnet20": dict(side=32, batch=8, rate=0.005),
    "resnet18": dict(side=64, batch=8, rate=0.001, shift=0.5),
    "mobilenet-0.25": dict(side=64, batch=16, rate=0.003, shift=2),
    "googlenet": dict(side=96, batch=4, rate=0.0002, scores=1 / 16, heads=True),
    "googlenet-torchvision": dict(side=96, batch=16, rate=0.0001, shift=2),
}
STEPS, CLASSES, MOMENTUM, WEIGHT_DECAY, HEAD_WEIGHT = 10, 10, 0.9, 5e-4, 0.3


def begin(name, side, shift=0, scores=1, heads=False, **_):
    """A network of the recipe without dropout, with some weights changed as the case says."""
    network = NETWORKS[name](CLASSES, heads=True, side=side) if heads else NETWORKS[name](CLASSES)
    recipe_weights(network)
    for key, module in network.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data += shift
        if key in ("fc", "aux1.fc2", "aux2.fc2"):
            module.weight.data *= scores
    return network


def floats(network):
    """Parameters and running statistics, as f64 vectors."""
    tensors = network.state_dict().items()
    return {name: value.double().flatten().numpy().copy() for name, value in tensors if value.dtype.is_floating_point}


def loss_of(scores, label):
    """Cross-entropy, with that of GoogLeNet's heads where they give scores, too."""
    if torch.is_tensor(scores):
        return F.cross_entropy(scores, label)
    heads = F.cross_entropy(scores.aux_logits1, label) + F.cross_entropy(scores.aux_logits2, label)
    return F.cross_entropy(scores.logits, label) + HEAD_WEIGHT * heads


def train(name, case, dtype):
    """Losses, and all tensors after the last step."""
    side, batch = case["side"], case["batch"]
    network = begin(name, **case).to(dtype).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=case["rate"], momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    images = torch.from_numpy(uniform("images", STEPS, batch, side, side, 3)).to(dtype).permute(0, 1, 4, 2, 3)
    labels = torch.from_numpy(numpy.floor((uniform("labels", STEPS, batch) + 1) / 2 * CLASSES)).long()
    losses = []
    for x, label in zip(images, labels):
        optimizer.zero_grad()
        loss = loss_of(network(x), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, floats(network)


def projections(values):
    vectors = uniform("projections", PROJECTIONS, len(values)).astype(numpy.float64)
    return vectors @ values


def make_losses():
    tensors, cases = {}, {}
    for name, case in LOSSES.items():
        losses, final = train(name, case, torch.float64)
        losses32, final32 = train(name, case, torch.float32)
        begun = floats(begin(name, **case))
        loss_error = max(abs(a - b) / b for a, b in zip(losses32, losses))
        norm = numpy.linalg.norm
        errors = {key: norm(final32[key] - value) / norm(value) for key, value in final.items()}
        updates = {key: norm(final32[key] - value) / norm(value - begun[key]) for key, value in final.items()}
        worst, update = max(errors, key=errors.get), numpy.median(list(updates.values()))
        moved = numpy.median([norm(value - begun[key]) / norm(value) for key, value in final.items()])
        print(f"{name}:", " ".join(f"{loss:.5f}" for loss in losses), f"; tensors moved by {moved:.1e}")
        print(f"  f32 against f64: losses {loss_error:.1e}, tensors {errors[worst]:.1e} ({worst}; limits 1e-5)")
        print(f"  median over the tensors, of the update: {update:.1e} (limit 6e-3)", flush=True)
        assert max(loss_error, errors[worst]) < 1e-5, "these batches are too sensitive to rounding for a golden file"
        assert update < 6e-3, "ten steps change too little to show that an update is right"
        tensors[f"{name}.losses"] = losses
        tensors |= {f"{name}.final.{key}": projections(value) for key, value in final.items()}
        cases[name] = dict(
            input=[case["side"], case["side"], 3], classes=CLASSES, batch=case["batch"], steps=STEPS,
            learningRate=case["rate"], momentum=MOMENTUM, weightDecay=WEIGHT_DECAY, shift=case.get("shift", 0),
            scores=case.get("scores", 1), heads=case.get("heads", False),
        )
    save("zoo_losses", tensors, cases)


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["logits", "losses"]
    if "logits" in wanted:
        make_logits()
    if "losses" in wanted:
        make_losses()
