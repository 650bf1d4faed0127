"""Writes state_dicts.json: the names and shapes of the tensors in torchvision's state dicts.

    python tests/golden/state_dicts.py        (torch and torchvision as in bench/requirements.txt)
"""

import json
from pathlib import Path

from torchvision import models

NETWORKS = {
    "alexnet-torchvision": models.alexnet(),
    "googlenet-torchvision": models.googlenet(aux_logits=True, init_weights=False),
    "resnet18": models.resnet18(),
    "resnet50": models.resnet50(),
}

shapes = {
    name: {tensor: list(value.shape) for tensor, value in network.state_dict().items()}
    for name, network in NETWORKS.items()
}
path = Path(__file__).with_suffix(".json")
path.write_text("{\n" + ",\n".join(f'"{name}": {json.dumps(tensors)}' for name, tensors in shapes.items()) + "\n}\n")
