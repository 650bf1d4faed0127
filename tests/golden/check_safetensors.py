"""Checks a LeNet-5 saved by fovea with Python's safetensors and PyTorch.

    npx fovea train lenet5 --data mnist --steps 20 --out RUN
    npx fovea run lenet5 --weights RUN/model.safetensors --input x.npy --output y.npy
    python tests/golden/check_safetensors.py RUN/model.safetensors x.npy y.npy

x.npy holds images, N x 28 x 28 x 1, u8 (scaled to 0..1) or f32 (as they are); y.npy the N x 10 logits that fovea
computed of them. Without the two arrays only names, types and shapes are checked. `--make-images x.npy` instead of
a file of weights writes 64 images to start from. Needs torch, numpy and safetensors as in bench/requirements.txt;
exits 0 when everything agrees, otherwise 1 with one line that says what differs.
"""

import sys

import numpy
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from make import LeNet5, smooth_images  # beside this file

TOLERANCE = 1e-5  # of the largest logit: fovea sums in f32, PyTorch here in f64


def check_tensors(path):
    """Same names, shapes and type as PyTorch's `state_dict`, every value finite."""
    expected = {name: list(tensor.shape) for name, tensor in LeNet5().state_dict().items()}
    with safe_open(path, framework="pt") as file:
        found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}
        types = {file.get_slice(name).get_dtype() for name in file.keys()}
    if found != expected:
        sys.exit(f"Expected the tensors {expected} but {path} holds {found}.")
    if types != {"F32"}:
        sys.exit(f"Expected F32 tensors but {path} holds {sorted(types)}.")
    infinite = [name for name, tensor in load_file(path).items() if not tensor.isfinite().all()]
    if infinite:
        sys.exit(f"Expected finite weights but {', '.join(infinite)} in {path} are not.")


def check_logits(path, images_path, logits_path):
    """PyTorch's LeNet-5 with these weights computes the same logits."""
    network = LeNet5()
    network.load_state_dict(load_file(path))
    images, actual = numpy.load(images_path), numpy.load(logits_path)
    x = torch.from_numpy(images).float() / (255 if images.dtype == numpy.uint8 else 1)
    with torch.no_grad():
        expected = network.double()(x.permute(0, 3, 1, 2).double()).numpy()
    if actual.shape != expected.shape:
        sys.exit(f"Expected logits of the shape {expected.shape} but {logits_path} has {actual.shape}.")
    difference = numpy.abs(actual - expected).max() / numpy.abs(expected).max()
    if not difference <= TOLERANCE:  # so written, a NaN fails
        sys.exit(f"Expected PyTorch's logits within {TOLERANCE} but they differ by {difference:.1e} of the largest.")
    print(f"{len(actual)} images: logits equal PyTorch's to {difference:.1e} of the largest.")


def main(arguments):
    match arguments:
        case ["--make-images", path]:
            numpy.save(path, smooth_images(4, 16)[0].reshape(64, 28, 28, 1).numpy())
        case [path]:
            check_tensors(path)
        case [path, images_path, logits_path]:
            check_tensors(path)
            check_logits(path, images_path, logits_path)
        case _:
            sys.exit(__doc__)
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1:])
