"""A training step with freed memory kept against glibc's default, each in a process of its own."""

import json
import subprocess
import sys
import time
from statistics import median

import torch
from cut import memory_held
from measuring import Effort, Pairs, Row, take_turns
from training import BATCH, SIDE, random_batch, segmenter

from polyp_lightning.common.malloc import keep_freed_memory

ENCODER = "timm-tf_efficientnet_lite0"
_STEPS, _WARM_UP = 10, 2


def measure(effort: Effort) -> list[Row]:
    """One row of time and one of peak memory; nothing where the C library is another."""
    if not keep_freed_memory():
        return []
    done: dict[str, list[dict[str, float]]] = {"keep": [], "default": []}
    take_turns(lambda: done["keep"].append(_run("keep")), lambda: done["default"].append(_run("default")), effort)
    kept, default = done["keep"], done["default"]
    times = Pairs([one["seconds"] for one in kept], [one["seconds"] for one in default])
    what = f"training step, lite0-Unet, {SIDE}², batch {BATCH}: freed memory kept"
    peaks = [a["peak"] / b["peak"] for a, b in zip(kept, default, strict=True)]
    return [times.row(what, 1.0), Row(f"{what}: peak memory of the process", peaks, "×", None)]


def _run(how: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, how], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def once() -> dict[str, float]:
    """The median step of this process in seconds, and its peak memory in bytes."""
    module, batch = segmenter(ENCODER).train(), random_batch()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    seconds = []
    for _ in range(_STEPS + _WARM_UP):
        start = time.perf_counter()
        module.loss(module(batch["image"]), batch["mask"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return {"seconds": median(seconds[_WARM_UP:]), "peak": memory_held("VmHWM")}


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep_freed_memory()
    print(json.dumps(once()))
