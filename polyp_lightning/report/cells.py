"""A study's rows gathered over seeds."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polyp_lightning.study.results import Result
from polyp_lightning.study.statistics import label

DENSE = "dense"
SEED_METHOD = "taylor"
"""TaylorFO with gradient-normalised back-propagation, pruning while training: what the report asks about."""


@dataclass(frozen=True, order=True)
class Setting:
    """What runs must have in common to be compared."""

    arch: str
    encoder: str
    data: str
    split: str
    test_set: str
    image_size: int

    @property
    def net(self) -> str:
        """The network, as people write it."""
        return f"{self.arch} {self.encoder}"

    def __str__(self) -> str:
        """One line."""
        return f"{self.net}, trained on {self.data} ({self.split}), tested on {self.test_set}, {self.image_size}²"


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone.

    Attributes:
        setting: what they share with the others.
        method: what was done, by :func:`~polyp_lightning.study.statistics.label`.
        target: share of the dense MACs that was asked for.
        epochs: in all.
        rows: one for each seed.
    """

    setting: Setting
    method: str
    target: float
    epochs: int
    rows: tuple[Result, ...]

    def values(self, field: str) -> list[float]:
        """A column's numbers, by seed; those that are not known are left out."""
        return [number for row in self.rows if not math.isnan(number := float(getattr(row, field)))]

    def mean(self, field: str) -> float:
        """Over seeds; NaN where nothing is known."""
        values = self.values(field)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, field: str) -> float:
        """The standard deviation over seeds, of a sample (n - 1); NaN for fewer than two."""
        values = self.values(field)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    @property
    def seeds(self) -> list[int]:
        """In ascending order."""
        return sorted({row.seed for row in self.rows})


def cells(rows: Iterable[Result]) -> list[Cell]:
    """Rows by setting, method, target and epochs, in the order in which they are read."""
    found: dict[tuple[Setting, str, float, int], list[Result]] = {}
    for row in rows:
        setting = Setting(row.arch, row.encoder, row.data, row.split, row.test_set, row.image_size)
        found.setdefault((setting, label(row), row.target, row.epochs), []).append(row)
    made = [Cell(*key, tuple(sorted(group, key=lambda row: row.seed))) for key, group in found.items()]
    return sorted(made, key=lambda cell: (cell.setting, _rank(cell.method), cell.method, -cell.target, cell.epochs))


def _rank(method: str) -> int:
    """The dense network, what is asked about, its variants, the other criteria, training from scratch."""
    if method.startswith("scratch"):
        return 4
    return [DENSE, SEED_METHOD].index(method) if method in (DENSE, SEED_METHOD) else 3 - method.startswith(SEED_METHOD)


def by_setting(found: Sequence[Cell]) -> dict[Setting, list[Cell]]:
    """The cells of each setting, in order; the settings with most runs first."""
    groups: dict[Setting, list[Cell]] = {}
    for cell in found:
        groups.setdefault(cell.setting, []).append(cell)
    return dict(sorted(groups.items(), key=lambda item: (-sum(len(cell.rows) for cell in item[1]), item[0])))


def nearest_target(group: Sequence[Cell], method: str, wanted: float) -> Cell | None:
    """The cell of a method whose target is nearest to ``wanted``; None where the method was not run.

    Of several with other numbers of epochs, the one with most seeds.
    """
    own = [cell for cell in group if cell.method == method]
    return min(own, key=lambda cell: (abs(cell.target - wanted), -len(cell.rows)), default=None)
