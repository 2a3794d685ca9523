"""Measures the milliseconds of a study's networks, and drops measurements that other work disturbed."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.machine import processor
from polyp_lightning.common.timing import measure_undisturbed
from polyp_lightning.deploy.benchmark.timers import build_timer
from polyp_lightning.pruning.budget import Timer
from polyp_lightning.study.plan import Study
from polyp_lightning.study.results import RESULTS, Result, change_results, read_results

ROUNDS = 3
"""How often each network has its turn."""

_TRIES = 5
"""How often a disturbed measurement is repeated before it is given up."""


def time_undisturbed(timer: Timer, net: nn.Module, shape: Sequence[int]) -> float:
    """Measures the milliseconds of one forward pass; NaN where the processor had other work to do meanwhile."""
    return measure_undisturbed(lambda: timer(net, shape))


def retime(study: Study, out: Path) -> int:
    """Measures all networks of a study once more, in turns, so that what slows the machine down slows all of them.

    Writes the times in the table anew; returns how many networks were measured.

    Raises:
        ConfigError: no checkpoint is left, or the machine has other work; the table stays as it is.
        DataError: there is no table.
    """
    timer = build_timer(study.backend, study.threads)
    sizes = {row.checkpoint: row.image_size for row in read_results(out) if (out / row.checkpoint).is_file()}
    if not sizes:
        msg = f"--retime: of no run in {out} the tested checkpoint is left; run the study first"
        raise ConfigError(msg)
    times: dict[str, list[float]] = {name: [] for name in sizes}
    for _ in range(ROUNDS):
        for name, size in sizes.items():
            net = load_net(out / name, "--output", [net.arch for net in study.nets]).net
            tries = (time_undisturbed(timer, net, (1, 3, size, size)) for _ in range(_TRIES))
            ms = next((ms for ms in tries if not math.isnan(ms)), math.nan)
            if math.isnan(ms):
                msg = "--retime: the machine has other work to do; nothing was changed. Try again when it has none"
                raise ConfigError(msg)
            times[name].append(ms)

    def timed(row: Result) -> Result:
        if row.checkpoint not in times:
            return replace(row, ms=math.nan)
        ms = statistics.median(times[row.checkpoint])
        return replace(row, ms=ms, ms_backend=study.backend, threads=study.threads, machine=processor())

    change_results(out / RESULTS, timed)
    return len(times)
