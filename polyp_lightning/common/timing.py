"""How long a call takes."""

import statistics
import time
from collections.abc import Callable
from typing import Any


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
