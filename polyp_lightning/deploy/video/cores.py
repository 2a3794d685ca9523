"""Keeping a stream's threads out of each other's way on few cores (Linux)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BUSY = 2
"""Threads beside the network that have work all the time: one that reads, and one that draws and writes."""


def divide_cores(threads: int) -> tuple[set[int] | None, set[int] | None]:
    """Chooses the cores of the network with its threads, and those of the threads beside it.

    A reader that has waited for room is as likely to wake up on the network's core as on a free one, which costs a
    tenth of the frames on two cores. None and None where it would not help: with a core for every thread, with none
    left, or where cores can't be chosen.
    """
    if sys.platform != "linux":
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    if not threads < len(cores) < threads + _BUSY:
        return None, None
    return set(cores[-threads:]), set(cores[:-threads])


@contextmanager
def stay_on_cores(cores: set[int] | None) -> Iterator[None]:
    """Keeps the calling thread, and no other, on some cores while the block runs; None leaves it alone."""
    if cores is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
