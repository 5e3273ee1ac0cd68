"""One measurement in a process of its own: its arguments are a function's name and that function's, as JSON."""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from contenders import CONTENDERS, TEXTS, fits
from workloads import WORKLOADS

from gradtrace import tracefile
from gradtrace.recording.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

torch.set_num_threads(1)


def ratios(workload: str, sizes: dict[str, Any], names: list[str], rounds: int) -> dict[str, float]:
    """Return each contender's median CPU time in seconds; they take turns, ``rounds`` times each.

    On a GPU it is the wall time until that has done its work.
    """
    step = WORKLOADS[workload](**sizes)
    runs = {name: CONTENDERS[name](step) for name in names if fits(name, step)}
    return _take_turns(runs, rounds, _gpu_time if sizes.get("device") == "cuda" else time.process_time)


def _gpu_time() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def gpu() -> dict[str, str]:
    """Return the name of the GPU, if there is one."""
    return {"name": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}


def texts(workload: str, sizes: dict[str, Any], rounds: int) -> dict[str, float]:
    """Return the median CPU time in seconds of each way from a tensor to the DOT text of its structure."""
    tensor = WORKLOADS[workload](**sizes)()
    return _take_turns({name: lambda text=text: text(tensor) for name, text in TEXTS.items()}, rounds)


def _take_turns(
    runs: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    for run in runs.values():
        with contextlib.redirect_stdout(sys.stderr):
            run()  # imports whatever is imported once, fills whatever is cached
    gc.collect()
    gc.freeze()  # as the gradtrace command does for the script; here for all of them
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def once(workload: str, sizes: dict[str, Any], name: str) -> dict[str, float]:
    """Run a contender twice, for the peak of this process's memory."""
    run = CONTENDERS[name](WORKLOADS[workload](**sizes))
    run()
    run()
    return {}


def chain(ops: int, path: str | None) -> dict[str, float]:
    """Run a chain; with a path also record and save it. Returns the CPU seconds, and the bytes on disk."""
    gc.freeze()
    step = WORKLOADS["chain"](ops)
    start = time.process_time()
    if path is None:
        step()
        return {"seconds": time.process_time() - start}
    with Recorder() as recorder:
        step()
    tracefile.save(recorder.trace, path)
    return {"seconds": time.process_time() - start, "bytes": Path(path).stat().st_size}


def load(path: str, rounds: int) -> dict[str, float]:
    """Return the median CPU time in seconds to load a trace."""
    return _take_turns({"seconds": lambda: tracefile.load(path)}, rounds)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))))
