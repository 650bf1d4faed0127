"""What the peers share: one JSON request a line on stdin, one JSON reply a line on stdout.

    {"model": "lenet5", "mode": "train" | "infer", "batch": 64, "threads": 2, "seconds": 2, "setting": "channels_last"}
    {"medianMs": .., "minMs": .., "maxMs": .., "steps": .., "setting": "..", "peakMemoryBytes": .., "startMemoryBytes": ..}
    or {"error": ".."}

Without a setting, or with null, the peer tries all that it has for a moment each and takes the fastest; its reply says
which. The first line a peer writes is {"ready": "torch 2.15.0"}. It ends when stdin does. Between requests it waits in a
blocking read, so that it takes nothing from whoever is measured meanwhile. What a request builds is kept for the next
equal one: rounds that alternate between programs pay for building and for the choice of a setting only once.

The peak memory is that of the process so far, trials included: who wants that of one setting starts a process for it.
The memory at the start is what the program held before its first request.
"""

import json
import re
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Request(NamedTuple):
    model: str
    mode: str
    batch: int
    threads: int
    setting: str | None = None


def serve(version, prepare):
    """Answers requests until stdin ends; `prepare(request)` gives {setting: make}, and make() a function for one step."""
    start_memory = peak_memory()
    built = None  # the last request, the setting it runs with, and its step
    print(json.dumps({"ready": version}), flush=True)
    for line in sys.stdin:
        try:
            fields = json.loads(line)
            seconds = float(fields.pop("seconds"))
            request = Request(**fields)
            check(request, seconds)
            if built is None or built[0] != request:
                built = None  # frees the memory of the last one first
                built = (request, *choose(prepare(request), request.setting))
            _, setting, step = built
            times = measure(step, seconds)
            memory = {"peakMemoryBytes": peak_memory(), "startMemoryBytes": start_memory}
            reply = times | {"setting": setting} | memory
        except Exception as error:  # whatever a request brings, the next one is answered
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


def check(request, seconds):
    if request.mode not in ("train", "infer"):
        raise ValueError(f'Expected train or infer for "mode" but received {request.mode}.')
    if not (request.batch >= 1 and request.threads >= 1 and seconds > 0):
        raise ValueError(f"Expected a positive batch, threads and seconds but received {request}, {seconds}.")


def choose(settings, setting):
    """The setting and its step; without one, that with the smallest median over a short trial of each."""
    if setting is None:
        trials = {name: measure(make(), 0.3, 2)["medianMs"] for name, make in settings.items()}
        setting = min(trials, key=trials.get)
    if setting not in settings:
        raise ValueError(f'Expected one of {", ".join(settings)} for "setting" but received {setting}.')
    return setting, settings[setting]()


def measure(step, seconds, least=3):
    """Milliseconds a step over at least `seconds` and `least` steps, after a warm-up of a tenth of the time."""
    repeat(step, seconds / 10, 1)
    times = repeat(step, seconds, least)
    return {"medianMs": statistics.median(times), "minMs": min(times), "maxMs": max(times), "steps": len(times)}


def repeat(step, seconds, least):
    times = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1000)
    return times


def peak_memory():
    """The most memory that this process has held, in bytes.

    Linux carries ru_maxrss over from the program that started this one, and only /proc tells this program's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
