"""What the measurements share: pairs of times taken in turn, and the row of the table that they become."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from polyp_lightning.common.machine import cores, processor


@dataclass(frozen=True)
class Effort:
    """How long one measurement may go on.

    Attributes:
        seconds: no further pair or process is begun after this time.
        least: pairs that are measured all the same.
        most: pairs after which the rest of the time is left.
    """

    seconds: float
    least: int
    most: int = 1000

    def wants_more(self, done: int, since: float) -> bool:
        """Whether another pair is to be measured, after ``done`` pairs that began at ``time.perf_counter()`` since."""
        return done < self.least or (done < self.most and time.perf_counter() - since < self.seconds)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured, with the number of repetitions.
        values: one per repetition: a ratio, seconds or gigabytes.
        unit: printed behind the values: "×", " s" or " GB".
        limit: what is asked of the median; None where nothing is.
        at_least: whether the limit is a lower bound.
        ours: the median of our side with its unit.
        reference: the median of the other side with its unit; empty where there is none.
    """

    what: str
    values: Sequence[float]
    unit: str
    limit: float | None
    at_least: bool = False
    ours: str = ""
    reference: str = ""

    @property
    def median(self) -> float:
        """The median of the repetitions."""
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        """Median (min-max)."""
        return f"{self.median:.3f}{self.unit} ({min(self.values):.2f}–{max(self.values):.2f})"

    @property
    def asked(self) -> str:
        """The limit in words; empty where there is none."""
        return "" if self.limit is None else f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    @property
    def met(self) -> bool | None:
        """Whether the median keeps to the limit; None where there is none."""
        if self.limit is None:
            return None
        return self.median >= self.limit if self.at_least else self.median <= self.limit


@dataclass
class Pairs:
    """Seconds of two sides that took turns."""

    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Ours ÷ reference, pair by pair: what slows the whole machine for a while falls out."""
        return [a / b for a, b in zip(self.ours, self.reference, strict=True)]

    def row(self, what: str, limit: float | None, *, at_least: bool = False) -> Row:
        """The row of a measurement; less of our time is better unless ``at_least`` so much more of it is asked for."""
        return Row(
            f"{what}, n = {len(self.ours)}",
            self.ratios,
            "×",
            limit,
            at_least,
            ours=milliseconds(self.ours),
            reference=milliseconds(self.reference),
        )


def take_turns(ours: Callable[[], object], reference: Callable[[], object], effort: Effort) -> Pairs:
    """Times two sides in the order A B B A A B …; each has one turn before that is not counted."""
    pairs = Pairs()
    sides = ((ours, pairs.ours), (reference, pairs.reference))
    for side, _ in sides:
        side()
    since = time.perf_counter()
    while effort.wants_more(len(pairs.reference), since):
        for side, seconds in sides if len(pairs.ours) % 2 == 0 else sides[::-1]:
            start = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - start)
    return pairs


def milliseconds(seconds: Sequence[float]) -> str:
    """The median in milliseconds, as text."""
    return f"{1e3 * statistics.median(seconds):.0f} ms"


def machine() -> str:
    """Processor, cores, threads and versions: what the absolute times rest on."""
    return (
        f"{processor()} × {cores()}; torch {torch.__version__} with {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()} on {platform.system()}"
    )
