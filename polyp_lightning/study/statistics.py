"""Is one better than the other? Paired comparisons over the same test images and seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from polyp_lightning.common.errors import DataError
from polyp_lightning.study.replicates import DENSE, Replicates, keep_common_seeds
from polyp_lightning.study.results import ImageScore, Result

Values = NDArray[np.float64]
RESAMPLES = 9999
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Paired:
    """How much better a is than b on the same images.

    Attributes:
        difference: mean of a - b over images and seeds.
        low: lower end of its 95 % bootstrap interval over images; NaN for a single seed.
        high: upper end; likewise.
        p: of Wilcoxon's signed rank test over images, two-sided; likewise.
        images: how many.
        by_seed: the mean of a - b over images, for each seed.
    """

    difference: float
    low: float
    high: float
    p: float
    images: int
    by_seed: tuple[float, ...]

    @property
    def agree(self) -> bool:
        """Whether the difference has the same sign under every seed."""
        return min(self.by_seed) > 0 or max(self.by_seed) < 0


@dataclass(frozen=True)
class Comparison:
    """Two methods of one setting, target and number of epochs, with the seeds that both have.

    Positive where the reference, the method asked about, is better. ``p_holm`` is ``paired.p`` corrected for all
    comparisons of the table; NaN where there is none.
    """

    reference: Replicates
    compared: Replicates
    paired: Paired
    p_holm: float


def compare_pairs(a: Values, b: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> Paired:
    """Compares two methods on the same seeds and images.

    An image is one cluster: its values under all seeds stay together, since the same hard image is hard under each.
    So the interval and the test speak of other images of this kind, for these seeds; what another seed would change
    shows in ``by_seed`` beside them. Of a single seed there is neither: they would tell two networks apart, not two
    methods.

    ``a`` and ``b`` are (seeds, images), such as Dice, in the same order; the percentile bootstrap resamples images.

    Raises:
        DataError: the two don't have the same shape, or there are no images.
    """
    if a.shape != b.shape or a.ndim != 2 or not a.size:
        shapes = f"{a.shape} and {b.shape}"
        msg = f"paired values must be (seeds, images) of one shape, got {shapes}; test both on one data set"
        raise DataError(msg)
    differences, by_seed = (a - b).mean(0), tuple(map(float, (a - b).mean(1)))
    if len(by_seed) == 1:
        return Paired(by_seed[0], math.nan, math.nan, math.nan, a.shape[1], by_seed)
    low, high = bootstrap_interval(differences, resamples=resamples, seed=seed)
    # All pairs equal: no evidence either way, where the test itself is not defined.
    p = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Paired(float(differences.mean()), low, high, p, a.shape[1], by_seed)


def bootstrap_interval(values: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of the mean; of a single or of equal values, that value."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
        # All resamples at once would take memory as images × resamples.
        batch=1000,
    ).confidence_interval
    return float(found.low), float(found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scand. J. Statist. 6, 1979): adjusted p-values, in the order given.

    The k-th smallest of m is multiplied by m - k + 1; none is smaller than one before it, or larger than 1. NaN, where
    nothing was tested, does not count and stays.

    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [math.nan] * len(p_values)
    tested = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    largest = 0.0
    for rank, index in enumerate(sorted(tested, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def compare_methods(
    found: Sequence[Replicates], images: Mapping[str, Sequence[ImageScore]], against: str = "taylor"
) -> list[Comparison]:
    """Compares one method with every other, at equal target, epochs and test set, by the Dice of single images.

    The dense network is compared at every target. Of each pair, only seeds that both have count. Holm's correction is
    over all rows that have a p. One row for each pair, in the order of the cells; none where the reference has no run.

    Raises:
        DataError: a run has no values of single images, or not of the same images as another.
    """
    pairs = [
        keep_common_seeds(reference, other)
        for reference in found
        if reference.method == against
        for other in found
        if other.method != against and _comparable(reference, other)
    ]
    rows = [_compared(ours, theirs, images) for ours, theirs in pairs if ours.rows]
    corrected = holm([row.paired.p for row in rows])
    return [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]


def _comparable(reference: Replicates, other: Replicates) -> bool:
    equal = (other.setting, other.epochs) == (reference.setting, reference.epochs)
    return equal and (other.target == reference.target or other.method == DENSE)


def _compared(ours: Replicates, theirs: Replicates, images: Mapping[str, Sequence[ImageScore]]) -> Comparison:
    return Comparison(ours, theirs, compare_pairs(*pair_scores(ours, theirs, images)), math.nan)


def pair_scores(
    ours: Replicates, theirs: Replicates, images: Mapping[str, Sequence[ImageScore]], metric: str = "dice"
) -> tuple[Values, Values]:
    """Returns a score of single images, such as dice or hd95, of both sides: (seeds, images), in the same order.

    Raises:
        DataError: a run has no values of single images, or not of the same images as another.
    """
    tables = [[_by_name(row, images, metric) for row in side.rows] for side in (ours, theirs)]
    names = sorted(tables[0][0])
    odd = next((table for table in (*tables[0], *tables[1]) if table.keys() != set(names)), None)
    if odd is not None:
        msg = (
            f"{ours.method} and {theirs.method} were not tested on the same images of {ours.setting.test_set} (such as "
            f"{sorted(odd.keys() ^ set(names))[0]}); test them on the same files"
        )
        raise DataError(msg)
    a, b = (np.array([[table[name] for name in names] for table in rows]) for rows in tables)
    return a, b


def _by_name(result: Result, images: Mapping[str, Sequence[ImageScore]], metric: str) -> dict[str, float]:
    found = {row.name: getattr(row, metric) for row in images.get(result.run, ()) if row.test_set == result.test_set}
    if not found:
        msg = (
            f"run {result.run} has no values of single images of {result.test_set}: remove its folder and run it again"
        )
        raise DataError(msg)
    return found
