"""PyTorch on the CPU as a peer: see protocol.py for what it reads and writes.

Training: forward, cross-entropy (auxiliary heads with their weight), backward, SGD with momentum 0.9 and weight decay
5e-4, on one synthetic batch. Its settings are the memory formats, and in training the plain and the fused optimizer.
torch.compile and bf16 were slower in training on machines without AMX.
"""

import torch
from torch import nn

from models import AUXILIARY_WEIGHT, build
from protocol import serve

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def prepare(request):
    torch.set_num_threads(request.threads)
    if request.mode == "infer":
        return {name: lambda layout=layout: inference(request, layout) for name, layout in FORMATS.items()}
    return {
        f"{name}{', fused SGD' if fused else ''}": lambda layout=layout, fused=fused: training(request, layout, fused)
        for name, layout in FORMATS.items()
        for fused in (False, True)
    }


def training(request, layout, fused):
    network, x, labels = synthetic(request, layout)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=fused)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss(network(x), labels).backward()
        optimizer.step()

    return step


def loss(outputs, labels):
    if isinstance(outputs, torch.Tensor):
        return nn.functional.cross_entropy(outputs, labels)
    last, *auxiliary = (nn.functional.cross_entropy(output, labels) for output in outputs)
    return last + AUXILIARY_WEIGHT * sum(auxiliary)


def inference(request, layout):
    network, x, _ = synthetic(request, layout)
    network.eval()

    def step():
        with torch.inference_mode():
            network(x)

    return step


def synthetic(request, layout):
    network, shape, classes = build(request.model)
    x = torch.rand(request.batch, *shape).to(memory_format=layout)
    labels = torch.randint(classes, (request.batch,))
    return network.to(memory_format=layout), x, labels


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # fovea's threads do so too; threads started later inherit it
    serve(f"torch {torch.__version__}", prepare)
