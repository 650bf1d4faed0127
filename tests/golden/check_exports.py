"""Checks every network of the zoo, by the command line, against PyTorch and onnxruntime: weights and networks go both ways.

    python tests/golden/check_exports.py [--precision strict] [NAME...]        (packages: bench/requirements.txt)

For each network PyTorch's weights, by the recipe of zoo.py, are saved as safetensors and loaded by name. What `fovea export
--onnx` then writes must pass onnx.checker, with every shape inferred, and onnxruntime must compute the scores that `fovea run`
computes, of the network and of the file; so must PyTorch. What `fovea export --safetensors` writes must load into PyTorch
whole and give PyTorch's scores back to the bit. Scores agree when they differ by less than 1e-5 of the largest.

The files lie in a temporary directory, 750 MB at most, one network's at a time. Exits 1 when anything differs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
import onnx
import onnxruntime
import torch
from networks import NETWORKS  # these two beside this file
from safetensors.torch import load_file, save_file
from zoo import recipe_weights, uniform

FOVEA = ["node", str(Path(__file__).resolve().parents[2] / "dist" / "cli" / "main.js")]
IMAGES = 2
TOLERANCE = 1e-5


def fovea(*arguments):
    """What a command prints with --json; a command that fails ends this program."""
    done = subprocess.run([*FOVEA, *map(str, arguments), "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"fovea {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def difference(actual, expected):
    """The largest, over the largest expected value; infinite where shapes differ or a value is no number."""
    if actual.shape != expected.shape or not numpy.isfinite(actual).all():
        return numpy.inf
    return float(numpy.abs(actual - expected).max() / numpy.abs(expected).max())


def pytorch(name, classes):
    """The network with all that training has, so that a whole file of weights fits."""
    heads = {"heads": True} if name.startswith("googlenet") else {}
    return NETWORKS[name](classes, **heads).eval()


def check(name, entry, folder, precision):
    """The differences of one network's scores from PyTorch's and onnxruntime's."""
    weights, model, again = folder / "weights.safetensors", folder / "model.onnx", folder / "again.safetensors"
    network = pytorch(name, entry["classes"])
    recipe_weights(network)
    save_file(network.state_dict(), weights)
    images = uniform("images", IMAGES, *entry["input"])
    channels_first = numpy.ascontiguousarray(images.transpose(0, 3, 1, 2))
    numpy.save(folder / "x.npy", images)
    numpy.save(folder / "channels_first.npy", channels_first)

    def run(model, images, *options):
        output = folder / "y.npy"
        fovea("run", model, "--input", folder / images, "--output", output, "--precision", precision, *options)
        return numpy.load(output)

    ours = run(name, "x.npy", "--weights", weights)
    fovea("export", name, "--weights", weights, "--onnx", model)
    onnx.checker.check_model(str(model), full_check=True)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: channels_first})[0]
    with torch.no_grad():
        scores = network(torch.from_numpy(channels_first))
    fovea("export", name, "--weights", weights, "--safetensors", again)
    loaded = pytorch(name, entry["classes"])
    loaded.load_state_dict(load_file(again), strict=True)
    with torch.no_grad():
        same = torch.equal(loaded(torch.from_numpy(channels_first)), scores)
    return {
        "onnxruntime": difference(ours, theirs),
        "imported": difference(run(model, "channels_first.npy"), theirs),
        "PyTorch": difference(ours, scores.numpy()),
        "weights in PyTorch": 0.0 if same else numpy.inf,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks, all of the zoo by default")
    parser.add_argument("--precision", choices=["fast", "strict"], default="fast")
    options = parser.parse_args()
    worst = 0.0
    for entry in fovea("zoo", *options.names):
        with TemporaryDirectory() as folder:
            differences = check(entry["name"], entry, Path(folder), options.precision)
        worst = max(worst, *differences.values())
        print(f"{entry['name']:24}", ", ".join(f"{key} {value:.1e}" for key, value in differences.items()), flush=True)
    print(f"worst {worst:.1e}")
    if not worst < TOLERANCE:
        sys.exit(f"Expected differences below {TOLERANCE} but the worst is {worst:.1e}.")


if __name__ == "__main__":
    main()
