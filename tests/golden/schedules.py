"""Makes schedules.json: the learning rates of PyTorch's schedulers at every step of short runs.

    python tests/golden/schedules.py        (torch as in bench/requirements.txt)

Run once, the file is committed. A scheduler is stepped once a batch, ReduceLROnPlateau once an epoch with the metric
beside it. The names of a case's arguments are those of fovea's schedules.
"""

import json
from pathlib import Path

import torch
from torch.optim import lr_scheduler

STEPS, STEPS_PER_EPOCH, RATE = 60, 6, 0.1


def rates(make, metrics=None, momentum=0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE, momentum=momentum)
    scheduler = make(optimizer)
    seen = []
    for step in range(STEPS if metrics is None else len(metrics)):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([] if metrics is None else [metrics[step]]))
    return seen


def one_cycle(options, **torch_options):
    def make(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, cycle_momentum=False, **torch_options)

    return {"kind": "one-cycle", "options": options, "rates": rates(make)}


def momentum_cycle(options, **torch_options):
    momenta = []

    def make(optimizer):
        optimizer.register_step_pre_hook(lambda *_: momenta.append(optimizer.param_groups[0]["momentum"]))
        return lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, **torch_options)

    return {"kind": "one-cycle", "options": options, "rates": rates(make, momentum=0.9), "momenta": momenta}


def plateau(options, metrics, **torch_options):
    def make(optimizer):
        return lr_scheduler.ReduceLROnPlateau(optimizer, **torch_options)

    return {"kind": "plateau", "options": options, "metrics": metrics, "rates": rates(make, metrics)}


falling = [2, 1.5, 1.2, 1.19995, 1.2, 1.3, 1.25, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.0, 1.01, 1.02, 1.03, 1.04]
rising = [0.5, 0.6, 0.62, 0.62, 0.61, 0.6, 0.625, 0.63, 0.6301, 0.6302, 0.6303, 0.64, 0.64, 0.64, 0.64, 0.64, 0.64]

cases = [
    {
        "kind": "step",
        "options": {"every": 3, "factor": 0.5},
        "rates": rates(lambda o: lr_scheduler.StepLR(o, 3 * STEPS_PER_EPOCH, gamma=0.5)),
    },
    {
        "kind": "step",
        "options": {"every": 7, "unit": "steps"},
        "rates": rates(lambda o: lr_scheduler.StepLR(o, 7)),
    },
    {
        "kind": "multi-step",
        "options": {"milestones": [2, 7], "factor": 0.2},
        "rates": rates(lambda o: lr_scheduler.MultiStepLR(o, [12, 42], gamma=0.2)),
    },
    {
        "kind": "multi-step",
        "options": {"milestones": [1, 31, 48], "unit": "steps"},
        "rates": rates(lambda o: lr_scheduler.MultiStepLR(o, [1, 31, 48])),
    },
    {"kind": "cosine", "options": {}, "rates": rates(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS))},
    {
        "kind": "cosine",
        "options": {"final": 0.003},
        "rates": rates(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.003)),
    },
    {"kind": "polynomial", "options": {}, "rates": rates(lambda o: lr_scheduler.PolynomialLR(o, STEPS))},
    {
        "kind": "polynomial",
        "options": {"power": 2.5},
        "rates": rates(lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=2.5)),
    },
    one_cycle({}),
    one_cycle({"rise": 0.21, "initialDivisor": 5}, pct_start=0.21, div_factor=5),
    one_cycle({"anneal": "linear", "finalDivisor": 100}, anneal_strategy="linear", final_div_factor=100),
    momentum_cycle({"momentum": [0.85, 0.95]}),
    momentum_cycle(
        {"rise": 0.4, "anneal": "linear", "momentum": [0.5, 0.9]},
        pct_start=0.4,
        anneal_strategy="linear",
        base_momentum=0.5,
        max_momentum=0.9,
    ),
    plateau({"patience": 2}, falling, patience=2),
    plateau(
        {"patience": 1, "factor": 0.3, "threshold": 0.01, "cooldown": 2, "minimum": 0.005},
        falling,
        patience=1,
        factor=0.3,
        threshold=0.01,
        cooldown=2,
        min_lr=0.005,
    ),
    plateau(
        {"patience": 1, "threshold": 0.001, "monitor": "validationAccuracy"},
        rising,
        mode="max",
        patience=1,
        threshold=0.001,
    ),
]

lines = ",\n".join(json.dumps(case) for case in cases)
head = f'"steps": {STEPS}, "stepsPerEpoch": {STEPS_PER_EPOCH}, "rate": {RATE}, "torch": "{torch.__version__}"'
path = Path(__file__).with_suffix(".json")
path.write_text(f'{{{head}, "cases": [\n{lines}\n]}}\n')
print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")
