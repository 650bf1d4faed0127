"""Makes the golden files of this folder with PyTorch; run once, the files are committed.

    python tests/golden/make.py        (torch, numpy and safetensors as in bench/requirements.txt)

Inputs are f32; every result is computed by PyTorch in f64 and stored rounded to f32, so a golden value is within
6e-8 of its own size of the exact one. Layouts are PyTorch's: activations NCHW, convolution weights OIHW. The
geometry of each case stands, as JSON, under the one metadata key "cases"; tensors are named CASE.TENSOR.

The script is deterministic: the same versions write the same bytes.
"""

import json
import math
import sys
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parents[1] / "bench" / "peers"))

from models import LeNet5  # noqa: E402


def uniform(seed, *shape):
    """Values in -1..1, exact in f32: SplitMix64 of `seed`, the same as `uniform` in crates/reference."""
    count = math.prod(shape)
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.uint64(0x9E3779B97F4A7C15) * numpy.arange(2, count + 2, dtype=numpy.uint64)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    values = (z >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(1 << 23) - numpy.float32(1)
    return torch.from_numpy(values.reshape(shape))


def save(name, tensors, cases):
    """Writes NAME.safetensors; f64 becomes f32, integers stay."""
    arrays = {}
    for key, tensor in tensors.items():
        array = tensor.detach().cpu().numpy()
        arrays[key] = numpy.ascontiguousarray(array.astype(numpy.float32) if array.dtype == numpy.float64 else array)
    path = FOLDER / f"{name}.safetensors"
    save_file(arrays, path, metadata={"cases": json.dumps(cases)})
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")


def with_gradient(tensor):
    return tensor.double().requires_grad_()


def pair(value):
    return [value, value] if isinstance(value, int) else list(value)


# name: batch, input (h, w, c), filters, kernel, stride, padding (top, right, bottom, left), dilation, groups
CONVOLUTIONS = {
    "pointwise": (2, (5, 7, 17), 19, 1, 1, (0, 0, 0, 0), 1, 1),
    "pointwise-stride-2": (2, (7, 6, 8), 33, 1, 2, (0, 0, 0, 0), 1, 1),
    "pointwise-stride-3-padded": (1, (8, 5, 3), 4, 1, 3, (1, 0, 0, 1), 1, 1),
    "dense": (5, (1, 1, 84), 10, 1, 1, (0, 0, 0, 0), 1, 1),
    "dense-of-one-image": (1, (1, 1, 65), 70, 1, 1, (0, 0, 0, 0), 1, 1),
    "lenet5-conv1": (1, (28, 28, 1), 6, 5, 1, (2, 2, 2, 2), 1, 1),
    "lenet5-conv2": (2, (14, 14, 6), 16, 5, 1, (0, 0, 0, 0), 1, 1),
    "kernel-covers-the-input": (3, (5, 5, 8), 20, 5, 1, (0, 0, 0, 0), 1, 1),
    "resnet-stem": (1, (23, 22, 3), 16, 7, 2, (3, 3, 3, 3), 1, 1),
    "alexnet-stem": (1, (35, 39, 3), 17, 11, 4, (2, 2, 2, 2), 1, 1),
    "3x3": (2, (6, 7, 20), 18, 3, 1, (1, 1, 1, 1), 1, 1),
    "3x3-several-panels": (1, (4, 5, 40), 50, 3, 1, (1, 1, 1, 1), 1, 1),
    "3x3-stride-2": (3, (8, 9, 5), 7, 3, 2, (1, 1, 1, 1), 1, 1),
    "3x3-stride-2-same": (2, (8, 10, 4), 9, 3, 2, (0, 1, 1, 0), 1, 1),
    "3x3-stride-3-unequal-padding": (2, (11, 10, 3), 5, 3, 3, (1, 0, 2, 1), 1, 1),
    "2x4-stride-2-3": (2, (9, 13, 6), 8, (2, 4), (2, 3), (1, 2, 0, 1), 1, 1),
    "stride-beyond-the-kernel": (1, (10, 11, 4), 6, 2, 3, (0, 0, 0, 0), 1, 1),
    "4x4-same": (1, (6, 6, 4), 5, 4, 1, (1, 2, 2, 1), 1, 1),
    "1x9": (1, (3, 40, 2), 3, (1, 9), 1, (0, 4, 0, 4), 1, 1),
    "dilation-2": (1, (9, 8, 6), 10, 3, 1, (2, 2, 2, 2), 2, 1),
    "dilation-3-2-stride-2-1": (2, (12, 9, 3), 4, 3, (2, 1), (3, 0, 1, 2), (3, 2), 1),
    "one-pixel-padded": (2, (1, 1, 7), 9, 3, 1, (1, 1, 1, 1), 1, 1),
    "padding-beyond-the-kernel": (1, (4, 3, 2), 3, 2, 1, (3, 0, 0, 4), 1, 1),
    "two-groups": (2, (7, 7, 8), 12, 5, 1, (2, 2, 2, 2), 1, 2),
    "three-groups-stride-2": (1, (9, 7, 9), 6, 3, 2, (1, 0, 0, 1), 1, 3),
    "depthwise": (1, (8, 7, 19), 19, 3, 1, (1, 1, 1, 1), 1, 19),
    "depthwise-stride-2-same": (2, (8, 8, 16), 16, 3, 2, (0, 1, 1, 0), 1, 16),
    "depthwise-multiplier-2": (1, (6, 5, 6), 12, 3, 1, (1, 1, 1, 1), 1, 6),
    "depthwise-of-several-strips": (1, (15, 9, 5), 5, 3, 1, (2, 0, 1, 3), 1, 5),
    "depthwise-5x5-stride-2": (1, (9, 10, 17), 17, 5, 2, (2, 2, 2, 2), 1, 17),
    "depthwise-dilation-2": (1, (7, 8, 6), 6, 3, 1, (2, 2, 2, 2), 2, 6),
}


def make_conv2d():
    tensors, cases = {}, {}
    for seed, (name, case) in enumerate(CONVOLUTIONS.items()):
        batch, (height, width, channels), filters, kernel, stride, padding, dilation, groups = case
        kernel, stride, dilation = pair(kernel), pair(stride), pair(dilation)
        top, right, bottom, left = padding
        x = with_gradient(uniform(4 * seed, batch, channels, height, width))
        w = with_gradient(uniform(4 * seed + 1, filters, channels // groups, *kernel))
        b = with_gradient(uniform(4 * seed + 2, filters))
        padded = F.pad(x, (left, right, top, bottom))
        y = F.conv2d(padded, w, b, stride=stride, dilation=dilation, groups=groups)
        dy = uniform(4 * seed + 3, *y.shape)
        y.backward(dy.double())
        tensors |= {
            f"{name}.{key}": value
            for key, value in dict(x=x, w=w, b=b, y=y, dy=dy, dx=x.grad, dw=w.grad, db=b.grad).items()
        }
        cases[name] = dict(
            batch=batch, input=[height, width, channels], filters=filters, kernel=kernel, stride=stride,
            padding=list(padding), dilation=dilation, groups=groups,
        )
    save("conv2d", tensors, cases)


# name: batch, input (h, w, c), size, stride, padding (top, right, bottom, left), ceil_mode
WINDOWS = {
    "2x2": (2, (8, 6, 6), 2, 2, (0, 0, 0, 0), False),
    "2x2-cuts-the-edge": (1, (5, 7, 16), 2, 2, (0, 0, 0, 0), False),
    "2x2-ceil": (1, (5, 7, 3), 2, 2, (0, 0, 0, 0), True),
    "3x3-stride-2": (2, (9, 7, 5), 3, 2, (0, 0, 0, 0), False),
    "3x3-stride-2-ceil": (1, (8, 10, 17), 3, 2, (0, 0, 0, 0), True),
    "3x3-stride-2-padded": (1, (7, 8, 4), 3, 2, (1, 1, 1, 1), False),
    "3x3-stride-2-padded-ceil": (1, (8, 6, 4), 3, 2, (1, 1, 1, 1), True),
    "3x3-stride-1-padded": (1, (5, 6, 9), 3, 1, (1, 1, 1, 1), False),
    "2x3-stride-2-1-padded": (2, (6, 5, 3), (2, 3), (2, 1), (1, 1, 1, 1), False),
    "2x2-stride-3": (1, (8, 9, 2), 2, 3, (0, 0, 0, 0), False),
    "2x2-stride-3-padded-ceil": (1, (6, 7, 2), 2, 3, (1, 1, 1, 1), True),
    "2x2-padded-ceil-without-a-late-window": (1, (5, 5, 2), 2, 2, (1, 1, 1, 1), True),
    "5x5-stride-3": (1, (14, 14, 8), 5, 3, (0, 0, 0, 0), False),
    "whole-image": (3, (7, 7, 10), 7, 1, (0, 0, 0, 0), False),
    "unequal-padding": (1, (6, 7, 5), 3, 2, (0, 2, 1, 1), False),
}


def make_pool2d():
    tensors, cases = {}, {}
    for seed, (window, case) in enumerate(WINDOWS.items()):
        batch, (height, width, channels), size, stride, padding, ceil_mode = case
        size, stride = pair(size), pair(stride)
        pool = dict(
            batch=batch, input=[height, width, channels], size=size, stride=stride, padding=list(padding),
            ceil_mode=ceil_mode,
        )

        def add(name, x, function, geometry):
            x = with_gradient(x)
            y = function(x)
            dy = uniform(3 * seed + 1, *y.shape)
            y.backward(dy.double())
            tensors.update({f"{name}.{key}": value for key, value in dict(x=x, y=y, dy=dy, dx=x.grad).items()})
            cases[name] = geometry

        x = uniform(3 * seed, batch, channels, height, width)
        add(f"max-{window}", x, lambda x: max_pool2d(x, size, stride, padding, ceil_mode), dict(max=pool))
        # Three different values only: which of equal maxima gets the gradient is part of the meaning.
        ties = torch.round(uniform(3 * seed + 2, batch, channels, height, width))
        add(f"max-{window}-ties", ties, lambda x: max_pool2d(x, size, stride, padding, ceil_mode), dict(max=pool))
        for include in (True, False):
            if include or len(set(padding)) == 1 and max(padding) > 0:
                name = f"average-{window}" + ("" if include else "-without-padding")
                geometry = dict(average=dict(pool=pool, count_include_pad=include))
                add(name, x, lambda x: avg_pool2d(x, size, stride, padding, ceil_mode, include), geometry)
    save("pool2d", tensors, cases)


def max_pool2d(x, size, stride, padding, ceil_mode):
    top, right, bottom, left = padding
    if top == bottom and left == right:
        return F.max_pool2d(x, size, stride, (top, left), ceil_mode=ceil_mode)
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-math.inf), size, stride, ceil_mode=ceil_mode)


def avg_pool2d(x, size, stride, padding, ceil_mode, count_include_pad):
    top, right, bottom, left = padding
    if top == bottom and left == right:
        return F.avg_pool2d(x, size, stride, (top, left), ceil_mode, count_include_pad)
    return F.avg_pool2d(F.pad(x, (left, right, top, bottom)), size, stride, ceil_mode=ceil_mode)


# name: batch, input (h, w, c), filters, kernel, stride, padding of both sides, output padding, dilation, groups
TRANSPOSED_CONVOLUTIONS = {
    "transposed-3x3": (2, (5, 4, 6), 7, 3, 1, 1, 0, 1, 1),
    "transposed-4x4-stride-2": (1, (4, 5, 17), 9, 4, 2, 1, 0, 1, 1),
    "transposed-3x2-stride-2-3": (2, (4, 3, 4), 6, (3, 2), (2, 3), (1, 0), (1, 2), 1, 2),
    "transposed-gaps": (1, (3, 4, 5), 5, 2, 3, 0, 2, 1, 5),
    "transposed-dilation": (1, (4, 4, 3), 4, 3, 2, 2, 1, (2, 1), 1),
    "transposed-of-one-pixel": (3, (1, 1, 20), 8, (4, 3), 1, 0, 0, 1, 1),
}
ADAPTIVE = {"14-to-4": ((14, 14, 5), (4, 4)), "5x7-to-3x2": ((5, 7, 17), (3, 2)), "larger": ((2, 3, 4), (5, 3))}


def make_layers():
    """CASE.x, y, dy, dx and, where a layer has them, w, dw, b and db; transposed weights are [in, out / groups, h, w]."""
    tensors, cases = {}, {}

    def add(name, function, x, case, **parameters):
        x = with_gradient(x)
        parameters = {key: with_gradient(value) for key, value in parameters.items()}
        y = function(x, *parameters.values())
        dy = uniform(len(cases) + 500, *y.shape)
        y.backward(dy.double())
        results = dict(x=x, y=y, dy=dy, dx=x.grad, **parameters)
        results |= {f"d{key}": value.grad for key, value in parameters.items()}
        tensors.update({f"{name}.{key}": value for key, value in results.items()})
        cases[name] = case

    x = 5 * uniform(400, 2, 7, 3, 4)
    add("clip", lambda x: F.hardtanh(x, -1.5, 2.0), x, dict(op="clip"))
    add("hard-sigmoid", F.hardsigmoid, x, dict(op="hardSigmoid"))
    add("hard-swish", F.hardswish, x, dict(op="hardSwish"))
    add("log-softmax", lambda x: F.log_softmax(x, 1), x, dict(op="logSoftmax"))
    add("prelu", F.prelu, x, dict(op="prelu"), w=uniform(401, 7))
    add("prelu-shared", F.prelu, x, dict(op="prelu"), w=uniform(402, 1))
    add("global-max", lambda x: F.adaptive_max_pool2d(x, 1), x, dict(op="globalMaxPool"))
    add("global-max-ties", lambda x: F.adaptive_max_pool2d(x, 1), torch.round(x / 4), dict(op="globalMaxPool"))
    add("upsample", lambda x: F.interpolate(x, scale_factor=(2, 3)), x, dict(op="upsample", factor=(2, 3)))
    for name, ((height, width, channels), size) in ADAPTIVE.items():
        x = uniform(403, 2, channels, height, width)
        add(f"adaptive-{name}", lambda x: F.adaptive_avg_pool2d(x, size), x, dict(op="adaptiveAvgPool", size=size))
    for seed, (name, case) in enumerate(TRANSPOSED_CONVOLUTIONS.items()):
        batch, (height, width, channels), filters, kernel, stride, padding, output_padding, dilation, groups = case
        kernel, stride, padding, dilation = pair(kernel), pair(stride), pair(padding), pair(dilation)

        def function(x, w, b):
            return F.conv_transpose2d(x, w, b, stride, padding, output_padding, groups, dilation)

        add(
            name, function, uniform(410 + 3 * seed, batch, channels, height, width),
            dict(op="convTranspose", stride=stride, padding=2 * padding, dilation=dilation, groups=groups),
            w=uniform(411 + 3 * seed, channels, filters // groups, *kernel), b=uniform(412 + 3 * seed, filters),
        )
    save("layers", tensors, cases)


# shape n, c, h, w; mean and deviation of the values
BATCH_NORMS = {
    "few-pixels": ((2, 5, 1, 2), 0.0, 1.0),
    "image": ((3, 17, 6, 5), 0.5, 2.0),
    "channels": ((2, 70, 3, 3), -1.0, 0.1),
    "far-from-zero": ((2, 4, 8, 8), 100.0, 1.0),
}


def make_batch_norm():
    """x, weight, bias, dy; y in training, dx, dweight, dbias; mean and variance: the running ones, which begin as
    zeros and ones, after two batches, x and x + 1; inference: x normalised by them."""
    tensors, cases = {}, {}
    for seed, (name, (shape, mean, deviation)) in enumerate(BATCH_NORMS.items()):
        case = dict(epsilon=1e-5 if seed % 2 == 0 else 1e-3, momentum=0.1 if seed % 2 == 0 else 0.3)
        x, dy = (with_gradient(mean + deviation * uniform(4 * seed, *shape))), uniform(4 * seed + 1, *shape)
        norm = torch.nn.BatchNorm2d(shape[1], eps=case["epsilon"], momentum=case["momentum"], dtype=torch.float64)
        with torch.no_grad():
            norm.weight.copy_(uniform(4 * seed + 2, shape[1]))
            norm.bias.copy_(uniform(4 * seed + 3, shape[1]))
        y = norm(x)
        y.backward(dy.double())
        norm(x.detach() + 1)
        norm.eval()
        results = dict(
            x=x, weight=norm.weight, bias=norm.bias, dy=dy, y=y, dx=x.grad, dweight=norm.weight.grad,
            dbias=norm.bias.grad, mean=norm.running_mean, variance=norm.running_var, inference=norm(x),
        )
        tensors |= {f"{name}.{key}": value for key, value in results.items()}
        cases[name] = case
    save("batch_norm", tensors, cases)


# shape n, c, h, w; hyperparameters
LOCAL_RESPONSE_NORMS = {
    "alexnet": ((2, 33, 3, 4), dict(size=5, alpha=1e-4, beta=0.75, k=1.0)),
    "strong": ((1, 20, 4, 3), dict(size=5, alpha=2.0, beta=0.75, k=2.0)),
    "even-window": ((2, 17, 2, 3), dict(size=4, alpha=1.5, beta=0.5, k=0.5)),
    "one-channel": ((1, 7, 2, 2), dict(size=1, alpha=0.5, beta=1.0, k=1.0)),
    "window-beyond-the-channels": ((2, 3, 3, 3), dict(size=9, alpha=3.0, beta=0.75, k=1.0)),
}


def make_local_response_norm():
    tensors, cases = {}, {}
    for seed, (name, (shape, case)) in enumerate(LOCAL_RESPONSE_NORMS.items()):
        x, dy = with_gradient(uniform(2 * seed, *shape)), uniform(2 * seed + 1, *shape)
        y = F.local_response_norm(x, **case)
        y.backward(dy.double())
        tensors |= {f"{name}.{key}": value for key, value in dict(x=x, y=y, dy=dy, dx=x.grad).items()}
        cases[name] = case
    save("local_response_norm", tensors, cases)


def make_softmax_cross_entropy():
    tensors, cases = {}, {}
    spread = torch.linspace(-90, 90, 10).repeat(3, 1)  # exp(180) overflows f32: the maximum must be taken out
    for seed, (name, logits) in enumerate({
        "ten-classes": 4 * uniform(1, 16, 10),
        "two-classes": uniform(2, 5, 2),
        "thousand-classes": 3 * uniform(3, 3, 1000),
        "far-apart": spread,
    }.items()):
        batch, classes = logits.shape
        labels = ((uniform(100 + seed, batch) + 1) / 2 * classes).to(torch.int32)
        for label_smoothing in (0.0, 0.1):
            case = f"{name}-{label_smoothing}"
            x = with_gradient(logits)
            losses = F.cross_entropy(x, labels.long(), reduction="none", label_smoothing=label_smoothing)
            losses.mean().backward()
            results = dict(logits=x, labels=labels, losses=losses, dlogits=x.grad, softmax=x.softmax(1))
            tensors |= {f"{case}.{key}": value for key, value in results.items()}
            cases[case] = dict(label_smoothing=label_smoothing)
    save("softmax_cross_entropy", tensors, cases)


def maximum_a_posteriori(scores, shares, rejection):
    """Equation 9 of LeCun et al. 1998 on scores, from what PyTorch has."""
    all_classes = torch.cat([scores, torch.full_like(scores[:, :1], -rejection)], 1)
    return ((shares.sum(1) * all_classes.logsumexp(1)) - (shares * scores).sum(1)).mean()


def make_losses(images=6, classes=11):
    """CASE.x, CASE.labels, or CASE.values; CASE.weights where classes have some; CASE.mean, and CASE.gradient by x."""
    labels = ((uniform(200, images) + 1) / 2 * classes).to(torch.int32)
    values, weights = uniform(201, images, classes).abs(), uniform(202, classes).abs() + 0.1
    one_hot = F.one_hot(labels.long(), classes).double()
    tensors, cases = {}, {}

    def add(name, function, targets, with_weights=False, **case):
        x = with_gradient(4 * uniform(203 + len(cases), images, classes))
        mean = function(x)
        mean.backward()
        tensors.update({f"{name}.x": x, f"{name}.mean": mean.reshape(1), f"{name}.gradient": x.grad})
        tensors.update({f"{name}.{'labels' if targets is labels else 'values'}": targets.clone()})
        if with_weights:
            tensors[f"{name}.weights"] = weights.clone()
        cases[name] = dict(label_smoothing=0.0) | case

    for label_smoothing in (0.0, 0.1):
        for weight in (None, weights.double()):
            options = dict(weight=weight, label_smoothing=label_smoothing)
            name = f"{label_smoothing}{'' if weight is None else '-weights'}"
            case = dict(kind="crossEntropy", label_smoothing=label_smoothing, with_weights=weight is not None)
            add(f"entropy-labels-{name}", lambda x: F.cross_entropy(x, labels.long(), **options), labels, **case)
            add(f"entropy-values-{name}", lambda x: F.cross_entropy(x, values.double(), **options), values, **case)
    for kind, function in {
        "binaryCrossEntropy": F.binary_cross_entropy_with_logits,
        "meanSquaredError": F.mse_loss,
        "maximumAPosteriori": lambda x, targets: maximum_a_posteriori(x, targets, 0.5),
    }.items():
        add(f"{kind}-labels", lambda x: function(x, one_hot), labels, kind=kind)
        add(f"{kind}-values", lambda x: function(x, values.double()), values, kind=kind)
    save("losses", tensors, cases)


# PyTorch's class and its options; the kinds and names are the reference's.
MOMENTS = dict(beta1=0.8, beta2=0.98, epsilon=1e-3)
OPTIMIZERS = {
    "sgd-plain": (0.1, 0.0, dict(kind="sgd", momentum=0.0, nesterov=False)),
    "sgd-momentum": (0.05, 0.0, dict(kind="sgd", momentum=0.9, nesterov=False)),
    "sgd-weight-decay": (0.1, 0.05, dict(kind="sgd", momentum=0.0, nesterov=False)),
    "sgd-momentum-weight-decay": (0.05, 5e-4, dict(kind="sgd", momentum=0.9, nesterov=False)),
    "sgd-nesterov-weight-decay": (0.05, 0.01, dict(kind="sgd", momentum=0.8, nesterov=True)),
    "adam": (0.05, 0.0, dict(kind="adam", **MOMENTS)),
    "adam-weight-decay": (0.05, 0.1, dict(kind="adam", **MOMENTS)),
    "adamw": (0.05, 0.1, dict(kind="adamw", **MOMENTS)),
    "rmsprop": (0.02, 0.0, dict(kind="rmsprop", alpha=0.9, epsilon=1e-3, momentum=0.0, centered=False)),
    "rmsprop-centered": (0.02, 0.05, dict(kind="rmsprop", alpha=0.9, epsilon=1e-2, momentum=0.0, centered=True)),
    "rmsprop-momentum": (0.02, 0.05, dict(kind="rmsprop", alpha=0.9, epsilon=1e-3, momentum=0.7, centered=False)),
    "rmsprop-both": (0.02, 0.05, dict(kind="rmsprop", alpha=0.9, epsilon=1e-2, momentum=0.7, centered=True)),
}


def make_optimizers(length=37, steps=10):
    """CASE.gradients [steps, length]; CASE.parameters [steps + 1, length], the first row before any step."""
    tensors, cases = {}, {}
    for seed, (name, (learning_rate, weight_decay, options)) in enumerate(OPTIMIZERS.items()):
        gradients = uniform(2 * seed, steps, length)
        parameter = with_gradient(uniform(2 * seed + 1, length))
        history = [parameter.detach().clone()]
        optimizer = torch_optimizer([parameter], learning_rate, weight_decay, **options)
        for gradient in gradients:
            parameter.grad = gradient.double()
            optimizer.step()
            history.append(parameter.detach().clone())
        tensors |= {f"{name}.gradients": gradients, f"{name}.parameters": torch.stack(history)}
        cases[name] = dict(learning_rate=learning_rate, weight_decay=weight_decay, optimizer=options)
    save("optimizers", tensors, cases)


def torch_optimizer(parameters, learning_rate, weight_decay, kind, **options):
    """PyTorch's optimizer of a kind; `parameters` may be groups."""
    if kind in ("adam", "adamw"):
        betas = (options.pop("beta1"), options.pop("beta2"))
        options = dict(betas=betas, eps=options.pop("epsilon"))
    if kind == "rmsprop":
        options["eps"] = options.pop("epsilon")
    make = dict(sgd=torch.optim.SGD, adam=torch.optim.Adam, adamw=torch.optim.AdamW, rmsprop=torch.optim.RMSprop)
    return make[kind](parameters, lr=learning_rate, weight_decay=weight_decay, **options)


def sgd(parameters, learning_rate, momentum, weight_decay, nesterov):
    return torch_optimizer(parameters, learning_rate, weight_decay, "sgd", momentum=momentum, nesterov=nesterov)


def initial_weights():
    """The recipe: tensor number i (in the order of `state_dict`) is uniform(i) times sqrt(6 / fan in) as f32, a
    bias uniform(i) times 1 / sqrt(fan in); fan in is the weight's inputs an output, also for its bias."""
    tensors = {}
    for index, (name, tensor) in enumerate(LeNet5().state_dict().items()):
        if name.endswith(".weight"):
            fan_in = tensor[0].numel()
        bound = math.sqrt((6 if name.endswith(".weight") else 1) / fan_in)
        tensors[name] = uniform(index, *tensor.shape) * numpy.float32(bound)
    return tensors


def smooth_images(batches, batch):
    """Ten bright blobs on black, one a class, each image moved and bent by noise of its own: [B, N, 28, 28] u8."""
    count = batches * batch
    labels = ((uniform(1000, count) + 1) / 2 * 10).to(torch.int32)
    prototypes = uniform(1001, 10, 1, 5, 5)[labels.long()]
    noise = 0.5 * uniform(1002, count, 1, 7, 7)
    smooth = sum(F.interpolate(grid.double(), 28, mode="bicubic", align_corners=True) for grid in (prototypes, noise))
    images = (smooth * 255).clamp(0, 255).round().to(torch.uint8)
    return images.reshape(batches, batch, 28, 28), labels.reshape(batches, batch)


def train(dtype, images, labels, label_smoothing, **options):
    """The loss of every step and the parameters after the last."""
    network = LeNet5()
    network.load_state_dict(initial_weights())
    network.to(dtype)
    optimizer = sgd(network.parameters(), **options)
    losses = []
    for x, label in zip(images, labels):
        optimizer.zero_grad()
        logits = network((x.float() / 255).to(dtype).unsqueeze(1))
        loss = F.cross_entropy(logits, label.long(), label_smoothing=label_smoothing)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), network.state_dict()


def disagreement(actual, expected):
    """Largest difference over the largest expected value."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()


LENET5_RUNS = {
    "momentum": dict(learning_rate=0.03, momentum=0.9, weight_decay=5e-4, nesterov=False, label_smoothing=0.0),
    "nesterov": dict(learning_rate=0.03, momentum=0.9, weight_decay=5e-4, nesterov=True, label_smoothing=0.1),
}


def make_lenet5_losses(batches=10, batch=16):
    """images u8 [batches, batch, 28, 28] (divided by 255 in f32) and labels of both runs; CASE.losses [batches]:
    the mean over each batch, before its update; momentum.final.NAME: the parameters after the last update.
    Initial weights: `initial_weights`."""
    images, labels = smooth_images(batches, batch)
    tensors = dict(images=images, labels=labels)
    for case, options in LENET5_RUNS.items():
        losses, final = train(torch.float64, images, labels, **options)
        losses32, final32 = train(torch.float32, images, labels, **options)
        loss_error = max(disagreement(actual, loss) for actual, loss in zip(losses32, losses))
        final_error = max(disagreement(final32[name], value) for name, value in final.items())
        print(f"lenet5 {case}:", " ".join(f"{loss:.6f}" for loss in losses))
        print(f"  PyTorch f32 against f64: losses {loss_error:.1e}, parameters {final_error:.1e} (limit 1e-5)")
        assert max(loss_error, final_error) < 1e-5, "these batches are too sensitive to rounding for a golden file"
        tensors[f"{case}.losses"] = losses
        if case == "momentum":  # a second set of 61,706 would double the file; ten losses see every update
            tensors |= {f"{case}.final.{name}": value for name, value in final.items()}
    save("lenet5_losses", tensors, LENET5_RUNS)


def node(name, op, *inputs, **options):
    return dict(name=name, op=op, inputs=list(inputs), **options)


def conv(name, x, filters, kernel, stride=1, padding=0, groups=1, bias=False):
    return node(name, "conv", x, filters=filters, kernel=pair(kernel), stride=pair(stride), padding=[padding] * 4,
                dilation=[1, 1], groups=groups, bias=bias, init="kaiming")


def batch_norm(name, x):
    return node(name, "batchNorm", x, epsilon=1e-5, momentum=0.1)


def max_pool(name, x, size, stride, padding=0, ceil=False):
    return node(name, "maxPool", x, size=pair(size), stride=pair(stride), padding=[padding] * 4, ceilMode=ceil)


def avg_pool(name, x, size, stride):
    return node(name, "avgPool", x, size=pair(size), stride=pair(stride), padding=[0] * 4, ceilMode=False,
                countIncludePad=True)


def dense(name, x, units):
    return node(name, "dense", x, units=units, bias=True, init="kaiming")


def classifier(x):
    return [node("pool", "globalAvgPool", x), node("flat", "flatten", "pool"), dense("fc", "flat", 10)]


def residual_graph():
    """Three blocks: one that keeps the size, one with a projection shortcut, one with option A's."""
    def branch(block, x, filters, stride):
        return [
            conv(f"{block}.conv1", x, filters, 3, stride, 1), batch_norm(f"{block}.bn1", f"{block}.conv1"),
            node(f"{block}.relu1", "relu", f"{block}.bn1"),
            conv(f"{block}.conv2", f"{block}.relu1", filters, 3, 1, 1), batch_norm(f"{block}.bn2", f"{block}.conv2"),
        ]

    def end(block, shortcut):
        return [node(f"{block}.add", "add", f"{block}.bn2", shortcut), node(block, "relu", f"{block}.add")]

    return [
        conv("conv1", "input", 8, 3, 1, 1), batch_norm("bn1", "conv1"), node("relu", "relu", "bn1"),
        max_pool("maxpool", "relu", 3, 2, 1),
        *branch("layer1", "maxpool", 8, 1), *end("layer1", "maxpool"),
        *branch("layer2", "layer1", 12, 2),
        conv("layer2.downsample.0", "layer1", 12, 1, 2), batch_norm("layer2.downsample.1", "layer2.downsample.0"),
        *end("layer2", "layer2.downsample.1"),
        *branch("layer3", "layer2", 20, 2),
        avg_pool("layer3.every", "layer2", 1, 2),
        node("layer3.zeros", "pad", "layer3.every", padding=[0] * 4, channels=[0, 8]),
        *end("layer3", "layer3.zeros"),
        *classifier("layer3"),
    ]


def inception_graph():
    """Four branches twice, the second time with batch normalisation; an auxiliary head between them."""
    def unit(name, x, filters, kernel, norm):
        layers = [conv(name, x, filters, kernel, 1, kernel // 2, bias=not norm)]
        if norm:
            layers.append(batch_norm(f"{name}.bn", name))
        return [*layers, node(f"{name}.relu", "relu", layers[-1]["name"])]

    def module(name, x, filters, norm):
        one, before3, three, before5, five, after = filters
        ends = [f"{name}.{branch}.relu" for branch in ("one", "three", "five", "after")]
        return [
            *unit(f"{name}.one", x, one, 1, norm),
            *unit(f"{name}.before3", x, before3, 1, norm),
            *unit(f"{name}.three", f"{name}.before3.relu", three, 3, norm),
            *unit(f"{name}.before5", x, before5, 1, norm),
            *unit(f"{name}.five", f"{name}.before5.relu", five, 5, norm),
            max_pool(f"{name}.pool", x, 3, 1, 1),
            *unit(f"{name}.after", f"{name}.pool", after, 1, norm),
            node(name, "concat", *ends),
        ]

    return [
        conv("conv1", "input", 8, 3, 1, 1, bias=True), node("relu1", "relu", "conv1"),
        node("norm1", "localResponseNorm", "relu1", size=5, alpha=0.5, beta=0.75, k=1),
        max_pool("pool1", "norm1", 3, 2, 0, True),
        *module("inception1", "pool1", (6, 4, 8, 3, 5, 7), False),
        *module("inception2", "inception1", (5, 6, 9, 4, 7, 3), True),
        avg_pool("aux.pool", "inception1", 3, 3),
        conv("aux.conv", "aux.pool", 6, 1, bias=True), node("aux.relu1", "relu", "aux.conv"),
        node("aux.flat", "flatten", "aux.relu1"), dense("aux.fc1", "aux.flat", 12), node("aux.relu2", "relu", "aux.fc1"),
        dense("aux.fc2", "aux.relu2", 10),
        *classifier("inception2"),
    ]


def separable_graph():
    """Depthwise and pointwise convolutions in turns, each with batch normalisation and an activation of its own."""
    def block(name, x, channels, filters, stride, *activations):
        (first, options), (second, others) = activations
        return [
            conv(f"{name}.0", x, channels, 3, stride, 1, groups=channels), batch_norm(f"{name}.1", f"{name}.0"),
            node(f"{name}.2", first, f"{name}.1", **options),
            conv(f"{name}.3", f"{name}.2", filters, 1), batch_norm(f"{name}.4", f"{name}.3"),
            node(f"{name}.5", second, f"{name}.4", **others),
        ]

    relu, relu6, sigmoid = ("relu", {}), ("relu6", {}), ("sigmoid", {})
    return [
        conv("conv1", "input", 8, 3, 2, 1), batch_norm("bn1", "conv1"), node("relu1", "relu", "bn1"),
        *block("features.1", "relu1", 8, 20, 1, relu, relu6),
        *block("features.2", "features.1.5", 20, 33, 2, ("leakyRelu", dict(slope=0.1)), relu),
        *block("features.3", "features.2.5", 33, 40, 1, relu, sigmoid),
        *classifier("features.3.5"),
    ]


def enlarging_graph():
    """Squeeze and excitation, then a map made larger by transposed convolutions and smaller by pooling of uneven windows."""
    transposed = dict(dilation=[1, 1], bias=True, init="kaiming")
    return [
        conv("conv1", "input", 12, 3, 2, 1, bias=True), node("swish1", "hardSwish", "conv1"),
        node("squeeze", "globalAvgPool", "swish1"), node("squeezed", "flatten", "squeeze"),
        dense("reduce", "squeezed", 6), node("slope", "prelu", "reduce", shared=True),
        dense("expand", "slope", 12), node("gate", "hardSigmoid", "expand", alpha=1 / 6, beta=0.5),
        node("excited", "multiply", "swish1", "gate"),
        node("up1", "convTranspose", "excited", filters=8, kernel=[3, 3], stride=[2, 2], padding=[1, 1, 1, 1],
             outputPadding=[1, 0], groups=1, **transposed),
        node("prelu1", "prelu", "up1", shared=False), node("gain", "scale", "prelu1", bias=True),
        node("uneven", "adaptiveAvgPool", "gain", size=[5, 4]),
        node("up2", "convTranspose", "uneven", filters=10, kernel=[2, 2], stride=[1, 1], padding=[0, 0, 0, 0],
             outputPadding=[0, 0], groups=2, **transposed),
        node("clipped", "clip", "up2", min=-1.5, max=1.0), node("large", "upsample", "clipped", factor=[1, 2]),
        node("positive", "sigmoid", "large"), node("divisor", "affine", "positive", scale=2, shift=0.5),
        node("quotient", "divide", "large", "divisor"), node("change", "subtract", "quotient", "large"),
        node("square", "multiply", "change", "change"), node("largest", "globalMaxPool", "square"),
        node("flat", "flatten", "change"), dense("wide", "flat", 10),
        node("row", "flatten", "largest"), node("both", "concat", "wide", "row"), dense("fc", "both", 10),
        node("log", "logSoftmax", "fc"),
    ]


NETWORKS = {
    "residual": dict(nodes=residual_graph(), outputs=[dict(node="fc", lossWeight=1)]),
    "inception": dict(
        nodes=inception_graph(), outputs=[dict(node="fc", lossWeight=1), dict(node="aux.fc2", lossWeight=0.3)]
    ),
    "separable": dict(nodes=separable_graph(), outputs=[dict(node="fc", lossWeight=1)]),
    "enlarging": dict(nodes=enlarging_graph(), outputs=[dict(node="log", lossWeight=1)]),
}


class PerChannel(torch.nn.modules.lazy.LazyModuleMixin, torch.nn.Module):
    """A function with vectors for its parameters that have an element for each channel, or one."""

    def __init__(self, function, names, shared=False):
        super().__init__()
        self.function, self.shared = function, shared
        for name in names:
            setattr(self, name, torch.nn.UninitializedParameter())

    def initialize_parameters(self, x):
        for parameter in self.parameters():
            parameter.materialize((1 if self.shared else x.shape[1],))
            parameter.data.zero_()

    def forward(self, x):
        return self.function(x, *self.parameters())


def scaled(x, weight, bias):
    return x * weight[:, None, None] + bias[:, None, None]


class Network(torch.nn.Module):
    """A graph definition as PyTorch computes it."""

    def __init__(self, nodes, outputs, image):
        """`image`: one of them, which gives the layers their input channels."""
        super().__init__()
        self.nodes, self.outputs = nodes, outputs
        self.layers = torch.nn.ModuleDict()
        for n in nodes:
            match n["op"]:
                case "conv":
                    layer = torch.nn.LazyConv2d(
                        n["filters"], n["kernel"], n["stride"], n["padding"][0], groups=n["groups"], bias=n["bias"]
                    )
                case "convTranspose":
                    layer = torch.nn.LazyConvTranspose2d(
                        n["filters"], n["kernel"], n["stride"], n["padding"][0], n["outputPadding"], n["groups"]
                    )
                case "prelu":
                    layer = PerChannel(F.prelu, ["weight"], n["shared"])
                case "scale":
                    layer = PerChannel(scaled, ["weight", "bias"])
                case "dense":
                    layer = torch.nn.LazyLinear(n["units"])
                case "batchNorm":
                    layer = torch.nn.LazyBatchNorm2d(n["epsilon"], n["momentum"])
                case _:
                    continue
            self.layers[n["name"].replace(".", "/")] = layer
        self.eval()
        self(image)
        self.train()

    def forward(self, x):
        maps = dict(input=x)
        for n in self.nodes:
            maps[n["name"]] = self.run(n, *(maps[x] for x in n["inputs"]))
        return [maps[output["node"]] for output in self.outputs]

    def run(self, n, *inputs):
        x = inputs[0]
        match n["op"]:
            case "conv" | "convTranspose" | "dense" | "batchNorm" | "prelu" | "scale":
                return self.layers[n["name"].replace(".", "/")](x)
            case "maxPool":
                return F.max_pool2d(x, n["size"], n["stride"], n["padding"][0], ceil_mode=n["ceilMode"])
            case "avgPool":
                return F.avg_pool2d(x, n["size"], n["stride"])
            case "globalAvgPool":
                return x.mean((2, 3), keepdim=True)
            case "globalMaxPool":
                return F.adaptive_max_pool2d(x, 1)
            case "adaptiveAvgPool":
                return F.adaptive_avg_pool2d(x, n["size"])
            case "upsample":
                return F.interpolate(x, scale_factor=tuple(n["factor"]))
            case "localResponseNorm":
                return F.local_response_norm(x, n["size"], n["alpha"], n["beta"], n["k"])
            case "pad":
                return F.pad(x, (0, 0, 0, 0, *n["channels"]))
            case "add":
                return x + inputs[1]
            case "subtract":
                return x - inputs[1]
            case "multiply":
                return x * (inputs[1] if inputs[1].shape == x.shape else inputs[1][:, :, None, None])
            case "divide":
                return x / inputs[1]
            case "concat":
                return torch.cat(inputs, 1)
            case "flatten":
                return x.flatten(1)
            case "leakyRelu":
                return F.leaky_relu(x, n["slope"])
            case "clip":
                return F.hardtanh(x, n["min"], n["max"])
            case "hardSigmoid" | "hardSwish":
                return getattr(F, n["op"].lower())(x)
            case "affine":
                return n["scale"] * x + n["shift"]
            case "logSoftmax":
                return F.log_softmax(x, 1)
            case "relu" | "relu6":
                return getattr(F, n["op"])(x)
            case "sigmoid":
                return torch.sigmoid(x)

    def tensors(self):
        """Parameters and running statistics by the names that the graph gives them."""
        names = {name: name.removeprefix("layers.").replace("/", ".") for name in self.state_dict()}
        return {names[name]: value for name, value in self.state_dict().items() if value.dtype.is_floating_point}


def network_weights(network):
    """The recipe: tensor number i in the order of the names is uniform(i), times sqrt(6 / fan in) for weights of
    several dimensions, times 0.2 for vectors, of which batch normalisation's scales and variances stand around 1."""
    for index, (name, tensor) in enumerate(sorted(network.tensors().items())):
        values = uniform(index, *tensor.shape)
        if tensor.dim() > 1:
            values = values * numpy.float32(math.sqrt(6 / tensor[0].numel()))
        else:
            values = values * numpy.float32(0.2) + (1 if name.endswith(("weight", "running_var")) else 0)
        with torch.no_grad():
            tensor.copy_(values)


def train_network(dtype, definition, images, labels, label_smoothing, **options):
    """The loss of every step, parameters and running statistics after the last, and predictions for the first batch."""
    batches = [(x.float() / 255).to(dtype).permute(0, 3, 1, 2) for x in images]
    network = Network(**definition, image=batches[0][:1].float())
    network_weights(network)
    network.to(dtype)
    optimizer = sgd(network.parameters(), **options)
    weights = [output["lossWeight"] for output in definition["outputs"]]
    losses = []
    for x, label in zip(batches, labels):
        optimizer.zero_grad()
        terms = zip(weights, network(x))
        loss = sum(
            weight * F.cross_entropy(logits, label.long(), label_smoothing=label_smoothing) for weight, logits in terms
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    network.eval()
    with torch.no_grad():
        predictions = network(batches[0])[0]
    return dict(losses=torch.stack(losses), predictions=predictions, **{
        f"final.{name}": value for name, value in network.tensors().items()
    })


def make_network_losses(batches=10, batch=16, side=12):
    """images u8 [batches, batch, side, side, 3] (divided by 255 in f32) and labels of all networks. CASE.losses
    [batches]: the mean over each batch, before its update; CASE.final.NAME: parameters and running statistics after the
    last update; CASE.predictions: logits of the first batch then, outside training. Initial weights:
    `network_weights`. The metadata has the graphs."""
    count = batches * batch
    labels = ((uniform(1000, count) + 1) / 2 * 10).to(torch.int32)
    prototypes = uniform(1001, 10, 3, 4, 4)[labels.long()]
    noise = 0.5 * uniform(1002, count, 3, 6, 6)
    smooth = sum(F.interpolate(grid.double(), side, mode="bicubic", align_corners=True) for grid in (prototypes, noise))
    images = (smooth * 128 + 128).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    images, labels = images.reshape(batches, batch, side, side, 3).contiguous(), labels.reshape(batches, batch)
    tensors, cases = dict(images=images, labels=labels), {}
    for case, definition in NETWORKS.items():
        options = dict(learning_rate=0.02, momentum=0.9, weight_decay=5e-4, nesterov=False, label_smoothing=0.1)
        results = train_network(torch.float64, definition, images, labels, **options)
        results32 = train_network(torch.float32, definition, images, labels, **options)
        errors = {name: disagreement(results32[name], value) for name, value in results.items()}
        worst = max(errors, key=errors.get)
        print(f"{case}:", " ".join(f"{loss:.6f}" for loss in results["losses"]))
        print(f"  PyTorch f32 against f64: losses {errors['losses']:.1e}, worst {worst} {errors[worst]:.1e} (limit 1e-5)")
        assert errors[worst] < 1e-5, "these batches are too sensitive to rounding for a golden file"
        tensors |= {f"{case}.{name}": value for name, value in results.items()}
        graph = dict(name=case, input=[side, side, 3], **definition)
        cases[case] = dict(graph=graph, **options)
    save("network_losses", tensors, cases)


def recipe_graph():
    """A convolution, batch normalisation, a dense layer: every kind of parameter."""
    return [
        conv("conv1", "input", 6, 3, 1, 1), batch_norm("bn1", "conv1"), node("relu1", "relu", "bn1"),
        conv("conv2", "relu1", 10, 3, 2, 1), batch_norm("bn2", "conv2"), node("relu2", "relu", "bn2"),
        *classifier("relu2"),
    ]


RECIPES = {
    "adam": dict(optimizer=dict(kind="adam", **MOMENTS), weight_decay=1e-3),
    "adamw-groups": dict(
        optimizer=dict(kind="adamw", **MOMENTS), weight_decay=0.05,
        groups=[
            dict(names=["bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias", "fc.bias"], scale=1, weight_decay=0),
            dict(names=["conv1.weight"], scale=0.25, weight_decay=0.1),
        ],
    ),
    "rmsprop-clipped": dict(
        optimizer=dict(kind="rmsprop", alpha=0.9, epsilon=1e-3, momentum=0.7, centered=True), clip_norm=0.5,
    ),
    "sgd-accumulated": dict(optimizer=dict(kind="sgd", momentum=0.9, nesterov=False), accumulate=4),
    "sgd-averaged": dict(optimizer=dict(kind="sgd", momentum=0.9, nesterov=True), ema=0.9),
    "sgd-frozen": dict(optimizer=dict(kind="sgd", momentum=0.9, nesterov=False), frozen=["conv1", "bn1", "bn2"]),
    "sgd-class-weights": dict(
        optimizer=dict(kind="sgd", momentum=0.9, nesterov=False),
        class_weights=[0.5, 2, 1, 1, 0.25, 1.5, 1, 3, 1, 0.75], label_smoothing=0.1,
    ),
}


def follow_recipe(dtype, nodes, images, labels, optimizer, weight_decay=0.0, groups=(), clip_norm=None, accumulate=1,
                  ema=None, frozen=(), class_weights=None, label_smoothing=0.0, learning_rate=0.02):
    """The loss of every step, parameters and running statistics after the last, and their averages where some are made."""
    batches = [(x.float() / 255).to(dtype).permute(0, 3, 1, 2) for x in images]
    network = Network(nodes, [dict(node="fc", lossWeight=1)], image=batches[0][:1].float())
    network_weights(network)
    network.to(dtype)
    named = {name.removeprefix("layers.").replace("/", "."): value for name, value in network.named_parameters()}
    for layer in frozen:
        network.layers[layer].requires_grad_(False)
        network.layers[layer].eval()
    grouped = {name for group in groups for name in group["names"]}
    lists = [dict(params=[value for name, value in named.items() if name not in grouped and value.requires_grad])]
    for group in groups:
        lists.append(dict(
            params=[named[name] for name in group["names"]], lr=learning_rate * group["scale"],
            weight_decay=group["weight_decay"],
        ))
    update = torch_optimizer(lists, learning_rate, weight_decay, **optimizer)
    averages = None
    if ema is not None:
        averages = torch.optim.swa_utils.AveragedModel(
            network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema), use_buffers=True
        )
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=dtype)
    losses = []
    for x, label in zip(batches, labels):
        update.zero_grad()
        total = 0
        for part, targets in zip(x.chunk(accumulate), label.long().chunk(accumulate)):
            logits = network(part)[0]
            loss = F.cross_entropy(logits, targets, weight=weight, label_smoothing=label_smoothing) / accumulate
            loss.backward()
            total = total + loss.detach()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        update.step()
        if averages is not None:
            averages.update_parameters(network)
        losses.append(total)
    results = dict(losses=torch.stack(losses))
    results |= {f"final.{name}": value.detach().clone() for name, value in network.tensors().items()}
    if averages is not None:
        results |= {f"average.{name}": value.detach().clone() for name, value in averages.module.tensors().items()}
    return results


def make_recipes(batches=10, batch=16, side=8):
    """As `make_network_losses`, of one small network and many ways to train it; CASE.average.NAME are averaged weights."""
    count = batches * batch
    labels = ((uniform(2000, count) + 1) / 2 * 10).to(torch.int32)
    prototypes = uniform(2001, 10, 3, 4, 4)[labels.long()]
    noise = 0.5 * uniform(2002, count, 3, 4, 4)
    smooth = F.interpolate((prototypes + noise).double(), side, mode="bicubic", align_corners=True)
    images = (smooth * 128 + 128).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    images, labels = images.reshape(batches, batch, side, side, 3).contiguous(), labels.reshape(batches, batch)
    tensors, nodes = dict(images=images, labels=labels), recipe_graph()
    cases = {}
    for case, recipe in RECIPES.items():
        results = follow_recipe(torch.float64, nodes, images, labels, **recipe)
        results32 = follow_recipe(torch.float32, nodes, images, labels, **recipe)
        errors = {name: disagreement(results32[name], value) for name, value in results.items()}
        worst = max(errors, key=errors.get)
        print(f"{case}:", " ".join(f"{loss:.6f}" for loss in results["losses"]))
        print(f"  PyTorch f32 against f64: losses {errors['losses']:.1e}, worst {worst} {errors[worst]:.1e} (limit 2e-5)")
        assert errors[worst] < 2e-5, "these batches are too sensitive to rounding for a golden file"
        tensors |= {f"{case}.{name}": value for name, value in results.items()}
        outputs = [dict(node="fc", lossWeight=1, loss=dict(kind="crossEntropy"))]
        graph = dict(name=case, input=[side, side, 3], nodes=nodes, outputs=outputs)
        cases[case] = dict(graph=graph, recipe=recipe)
    save("recipes", tensors, cases)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_conv2d()
    make_pool2d()
    make_layers()
    make_batch_norm()
    make_local_response_norm()
    make_softmax_cross_entropy()
    make_losses()
    make_optimizers()
    make_lenet5_losses()
    make_network_losses()
    make_recipes()
