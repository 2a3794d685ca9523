"""Tracing, choosing and one cut of a resnet34-Unet: time and memory, in a process of its own each time.

The first trace of a process also imports what fake tensors need; a user waits for that once, so it counts.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from measuring import Effort, Row

from polyp_lightning.networks.build import build_net
from polyp_lightning.pruning import remove, select, trace

SECONDS, GIGABYTES = 2.0, 1.0
TARGET = 0.5
_SHAPE = (2, 3, 256, 256)


def measure(effort: Effort) -> list[Row]:
    """Two rows: seconds, and the peak of memory over what the process held with the net built."""
    since = time.perf_counter()
    runs: list[dict[str, float]] = []
    while effort.wants_more(len(runs), since):
        runs.append(_in_new_process())
    what = f"one cut (trace, choose, remove), resnet34-Unet to {TARGET:.0%} of its MACs, n = {len(runs)}"
    seconds, peaks = [run["seconds"] for run in runs], [run["gigabytes"] for run in runs]
    time_row = Row(f"{what}: time", seconds, " s", SECONDS, ours=f"{statistics.median(seconds):.2f} s")
    peak = f"{statistics.median(peaks):.2f} GB"
    return [time_row, Row(f"{what}: peak memory over the net", peaks, " GB", GIGABYTES, ours=peak)]


def _in_new_process() -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"the process that cuts failed:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def once() -> dict[str, float]:
    """Builds the net, then traces, chooses by random importance and cuts.

    Returns:
        ``seconds``, and ``gigabytes`` (10⁹ bytes): the process's peak less what it held before the trace. Building
        the net may have had a higher peak than the cut; then the figure is too high, never too low.
    """
    torch.manual_seed(0)
    net = build_net("Unet", "resnet34", None).to(memory_format=torch.channels_last)
    before = memory_held("VmRSS")
    start = time.perf_counter()
    graph = trace(net, _SHAPE)
    removed = select(graph, torch.rand(graph.size).double().numpy(), TARGET)
    remove(net, graph, removed)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "gigabytes": (memory_held("VmHWM") - before) / 1e9}


def memory_held(key: str) -> int:
    """Bytes that the process holds now (VmRSS) or held at most (VmHWM).

    Not getrusage's maximum where there is /proc: on Linux that survives exec, so a child would begin with its parent's.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{key}:"))
        return int(line.split()[1]) * 1024
    # Linux reports kilobytes, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(once()))
