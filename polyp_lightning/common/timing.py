"""How long a call takes."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

LEAST_SHARE = 0.9
"""The share of the wall time that a measurement must have had a core for itself."""


def measure_undisturbed(measure: Callable[[], float]) -> float:
    """Makes a measurement of time; NaN where the processor had other work to do meanwhile.

    A network alone on its core has as much processor time as the clock has run. One that waits for its turn has less.
    """
    wall, own = time.perf_counter(), time.process_time()
    found = measure()
    wall, own = time.perf_counter() - wall, time.process_time() - own
    return found if own >= LEAST_SHARE * wall else math.nan


def median_seconds(run: Callable[[], Any], seconds: float, least: int) -> float:
    """Returns the median time of a call: two to warm up, then as many as fit into ``seconds``, at least ``least``."""
    # The first calls choose kernels and fill caches.
    for _ in range(2):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
