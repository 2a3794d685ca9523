"""Lines that say what goes on where nobody sees a bar: in the log of a job, in a pipe."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 20.0
"""Seconds between two lines on one piece of work."""


def announce(text: str) -> None:
    """Writes a line to standard error at once; only the first of several processes does.

    Standard output is left to what was asked for, such as a printed configuration.
    """
    if not any(os.environ.get(name, "0") != "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK")):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def hush(logger: str) -> Iterator[None]:
    """Keeps a library's logger, by name, to errors for a while."""
    named = logging.getLogger(logger)
    level = named.level
    named.setLevel(logging.ERROR)
    try:
        yield
    finally:
        named.setLevel(level)


def duration(seconds: float) -> str:
    """Writes a time as one would say it.

    >>> duration(7.6), duration(200), duration(7500)
    ('8 s', '3 min 20 s', '2 h 05 min')
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Pace:
    """Says how far a piece of work has come and how long the rest will take, at most every so many seconds.

    Args:
        what: the work, such as ``Epoch 0``.
        total: of its items.
        write: where lines go.
        every: seconds between two lines.
    """

    def __init__(self, what: str, total: int, write: Callable[[str], object] = announce, every: float = EVERY) -> None:
        self._what, self._total, self._write, self._every = what, total, write, every
        self._begun = self._said = time.monotonic()

    def reach(self, count: int) -> None:
        """Takes down that so many items are done."""
        now = time.monotonic()
        if now - self._said >= self._every and 0 < count < self._total:
            left = (now - self._begun) / count * (self._total - count)
            self._write(f"{self._what}: {count} of {self._total}, {duration(left)} left")
            self._said = now
