"""What the peers share: one JSON request a line on stdin, one JSON reply a line on stdout.

    {"model": "lenet5", "mode": "train" | "infer", "batch": 64, "threads": 2, "seconds": 2}
    {"medianMs": .., "minMs": .., "maxMs": .., "steps": .., "setting": "..", "version": ".."}  or  {"error": ".."}

The first line a peer writes is {"ready": "torch 2.15.0"}. It ends when stdin does. Between requests it waits in a
blocking read, so that it takes nothing from whoever is measured meanwhile. What a request builds is kept for the next
equal one: rounds that alternate between programs pay for building and for the choice of a setting only once.
"""

import json
import statistics
import sys
import time
from typing import NamedTuple


class Request(NamedTuple):
    model: str
    mode: str
    batch: int
    threads: int


def serve(version, prepare):
    """Answers requests until stdin ends; `prepare(request)` gives {setting: step} of functions that do one step."""
    built = None  # the last request, its best setting and step
    print(json.dumps({"ready": version}), flush=True)
    for line in sys.stdin:
        try:
            fields = json.loads(line)
            seconds = float(fields.pop("seconds"))
            request = Request(**fields)
            check(request, seconds)
            if built is None or built[0] != request:
                built = None  # frees the memory of the last one first
                built = (request, *fastest(prepare(request)))
            _, setting, step = built
            reply = measure(step, seconds) | {"setting": setting, "version": version}
        except Exception as error:  # whatever a request brings, the next one is answered
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


def check(request, seconds):
    if request.mode not in ("train", "infer"):
        raise ValueError(f'Expected train or infer for "mode" but received {request.mode}.')
    if not (request.batch >= 1 and request.threads >= 1 and seconds > 0):
        raise ValueError(f"Expected a positive batch, threads and seconds but received {request}, {seconds}.")


def fastest(steps):
    """The setting with the smallest median over a short trial of each."""
    trials = {setting: measure(step, 0.5)["medianMs"] for setting, step in steps.items()}
    setting = min(trials, key=trials.get)
    return setting, steps[setting]


def measure(step, seconds):
    """Milliseconds a step over at least `seconds` and three steps, after a warm-up of a tenth of that."""
    repeat(step, seconds / 10, 1)
    times = repeat(step, seconds, 3)
    return {"medianMs": statistics.median(times), "minMs": min(times), "maxMs": max(times), "steps": len(times)}


def repeat(step, seconds, least):
    times = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1000)
    return times
