"""A study's rows gathered over seeds."""

import math
import statistics
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from polyp_lightning.study.results import Result

DENSE = "dense"


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
        return f"{self.arch} {self.encoder}".rstrip()

    def __str__(self) -> str:
        """One line."""
        return f"{self.net}, trained on {self.data} ({self.split}), tested on {self.test_set}, {self.image_size}²"


@dataclass(frozen=True)
class Replicates:
    """Runs that differ in their seed alone, in its ascending order; the method is named by :func:`name_method`."""

    setting: Setting
    method: str
    target: float
    epochs: int
    rows: tuple[Result, ...]

    def values(self, field: str) -> list[float]:
        """A column's numbers, by seed; those that are not known are left out."""
        return [number for row in self.rows if not math.isnan(number := float(getattr(row, field)))]

    def mean(self, field: str) -> float:
        """The mean over seeds; NaN where nothing is known."""
        values = self.values(field)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, field: str) -> float:
        """The standard deviation over seeds, of a sample (n - 1); NaN for fewer than two."""
        values = self.values(field)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    @property
    def seeds(self) -> list[int]:
        """In ascending order."""
        return [row.seed for row in self.rows]

    def only(self, seeds: Collection[int]) -> "Replicates":
        """Returns the rows of some seeds."""
        return replace(self, rows=tuple(row for row in self.rows if row.seed in seeds))


def group_seeds(rows: Iterable[Result]) -> list[Replicates]:
    """Groups rows by setting, method, target and epochs, in the order in which they are read.

    Of two rows of the same seed the first counts: another try with one seed is no further seed.
    """
    found: dict[tuple[Setting, str, float, int], dict[int, Result]] = {}
    for row in rows:
        setting = Setting(row.arch, row.encoder, row.data, row.split, row.test_set, row.image_size)
        found.setdefault((setting, name_method(row), row.target, row.epochs), {}).setdefault(row.seed, row)
    return [Replicates(*key, tuple(own[seed] for seed in sorted(own))) for key, own in found.items()]


def keep_common_seeds(one: Replicates, other: Replicates) -> tuple[Replicates, Replicates]:
    """Restricts both to their common seeds: a method must not win by an easier seed."""
    seeds = set(one.seeds) & set(other.seeds)
    return one.only(seeds), other.only(seeds)


def name_method(result: Result) -> str:
    """Names a run as tables call it: its criterion, and what else sets it apart.

    ``dense``, ``taylor``, ``scratch of taylor``, ``taylor, oneshot``, ``taylor, distilled``.
    """
    if result.kind in (DENSE, "parent"):
        return result.kind
    name = f"scratch of {result.criterion}" if result.kind == "scratch" else result.criterion
    more = ["oneshot"] * (result.schedule == "oneshot") + ["distilled"] * bool(result.distill)
    return ", ".join([name, *more])
