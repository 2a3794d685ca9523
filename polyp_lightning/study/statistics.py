"""Is one better than the other? Paired comparisons over the same test images and seeds, and the spread over seeds."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from polyp_lightning.errors import DataError
from polyp_lightning.study.results import ImageScore, Result

Values = NDArray[np.float64]
Setting = tuple[str, str, str, str, int, str]
"""What two runs must share to be compared: arch, encoder, data, split, image size, test set."""

RESAMPLES = 9999
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A value over seeds.

    Attributes:
        mean: over seeds.
        sd: sample standard deviation over seeds; NaN for a single one.
        seeds: how many.
    """

    mean: float
    sd: float
    seeds: int


@dataclass(frozen=True)
class Paired:
    """How much better a is than b on the same images.

    Attributes:
        difference: mean of a - b over images and seeds.
        low: lower end of its 95 % bootstrap interval over images.
        high: upper end.
        p: of Wilcoxon's signed rank test over images, two-sided.
        images: how many.
        seeds: how many.
    """

    difference: float
    low: float
    high: float
    p: float
    images: int
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """One row of the comparison table: ``against`` is compared with ``other`` under equal conditions.

    Attributes:
        arch: the architecture.
        encoder: the encoder.
        data: trained on.
        split: its split.
        image_size: in pixels.
        test_set: tested on.
        target: share of the dense MACs.
        epochs: of the reference.
        against: label of the reference.
        other: label of what it is compared with.
        paired: on the seeds that both have; positive where the reference is better.
        p_holm: ``paired.p`` corrected for all comparisons of the table.
        reference: Dice of the reference over those seeds.
        compared: Dice of the other over those seeds.
    """

    arch: str
    encoder: str
    data: str
    split: str
    image_size: int
    test_set: str
    target: float
    epochs: int
    against: str
    other: str
    paired: Paired
    p_holm: float
    reference: Spread
    compared: Spread


def spread(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation.

    >>> spread([0.7, 0.8, 0.9])
    Spread(mean=0.8, sd=0.1, seeds=3)
    """
    found = list(values)
    sd = float(np.std(found, ddof=1)) if len(found) > 1 else math.nan
    return Spread(round(float(np.mean(found)), 12), round(sd, 12), len(found))


def paired(a: Values, b: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> Paired:
    """Compares two methods on the same seeds and images.

    An image is one cluster: its values under all seeds stay together, since the same hard image is hard under each.
    So the interval and the test speak of other images of this kind, for these seeds; what another seed would change is
    the standard deviation over seeds, which is reported beside it.

    Args:
        a: (seeds, images), such as Dice.
        b: likewise, in the same order.
        resamples: of the percentile bootstrap over images.
        seed: of the resampling.

    Raises:
        DataError: the two don't have the same shape, or there are no images.
    """
    if a.shape != b.shape or a.ndim != 2 or not a.size:
        shapes = f"{a.shape} and {b.shape}"
        msg = f"paired values must be (seeds, images) of one shape, got {shapes}; test both on one data set"
        raise DataError(msg)
    differences = (a - b).mean(0)
    low, high = interval(differences, resamples=resamples, seed=seed)
    # All pairs equal: no evidence either way, where the test itself is not defined.
    p = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Paired(float(differences.mean()), low, high, p, a.shape[1], a.shape[0])


def interval(values: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; of a single or of equal values, that value."""
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

    The k-th smallest of m is multiplied by m - k + 1; none is smaller than one before it, or larger than 1.

    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def label(result: Result) -> str:
    """What a run is called in tables: its criterion, and what else sets it apart.

    ``dense``, ``taylor``, ``scratch of taylor``, ``taylor, oneshot``, ``taylor, distilled``.
    """
    if result.kind == "dense":
        return "dense"
    name = f"scratch of {result.criterion}" if result.kind == "scratch" else result.criterion
    more = ["oneshot"] * (result.schedule == "oneshot") + ["distilled"] * bool(result.distill)
    return ", ".join([name, *more])


def comparisons(
    results: Sequence[Result], images: Mapping[str, Sequence[ImageScore]], against: str = "taylor"
) -> list[Comparison]:
    """Compares one method with every other, at equal target and test set, by the Dice of single images.

    The dense network is compared at every target. Of each pair, only seeds that both have count. Holm's correction is
    over all rows that are returned.

    Args:
        results: rows of results.csv.
        images: run → its rows of test_images.csv.
        against: the reference by its :func:`label`.

    Returns:
        One row for each pair, in the order of the results; empty where the reference has no run.

    Raises:
        DataError: a run has no values of single images, or not of the same images as another.
    """
    groups: dict[Setting, list[Result]] = defaultdict(list)
    for one in results:
        groups[one.arch, one.encoder, one.data, one.split, one.image_size, one.test_set].append(one)
    pairs = []
    for setting, members in groups.items():
        by_seed: dict[tuple[float, str], dict[int, Result]] = defaultdict(dict)
        for one in members:
            by_seed[1.0 if one.kind == "dense" else one.target, label(one)][one.seed] = one
        for (target, name), reference in by_seed.items():
            if name == against:
                others = (
                    (n, runs) for (t, n), runs in by_seed.items() if n != against and (t == target or n == "dense")
                )
                pairs += [(setting, target, n, reference, runs) for n, runs in others if reference.keys() & runs.keys()]
    rows = [
        _compared(setting, target, against, name, ours, theirs, images) for setting, target, name, ours, theirs in pairs
    ]
    corrected = holm([row.paired.p for row in rows])
    return [Comparison(**{**vars(row), "p_holm": p}) for row, p in zip(rows, corrected, strict=True)]


def _compared(
    setting: Setting,
    target: float,
    against: str,
    other: str,
    ours: Mapping[int, Result],
    theirs: Mapping[int, Result],
    images: Mapping[str, Sequence[ImageScore]],
) -> Comparison:
    seeds = sorted(ours.keys() & theirs.keys())
    tables = [[_by_name(runs[seed], images) for seed in seeds] for runs in (ours, theirs)]
    names = sorted(tables[0][0])
    odd = next((table for table in (*tables[0], *tables[1]) if table.keys() != set(names)), None)
    if odd is not None:
        msg = (
            f"{against} and {other} were not tested on the same images of {setting[-1]} (such as "
            f"{sorted(odd.keys() ^ set(names))[0]}); test them on the same files"
        )
        raise DataError(msg)
    a, b = (np.array([[table[name] for name in names] for table in rows]) for rows in tables)
    dice = [spread(runs[seed].dice for seed in seeds) for runs in (ours, theirs)]
    epochs = ours[seeds[0]].epochs
    return Comparison(*setting, target, epochs, against, other, paired(a, b), math.nan, *dice)


def _by_name(result: Result, images: Mapping[str, Sequence[ImageScore]]) -> dict[str, float]:
    found = {row.name: row.dice for row in images.get(result.run, ()) if row.test_set == result.test_set}
    if not found:
        msg = (
            f"run {result.run} has no values of single images of {result.test_set}: remove its folder and run it again"
        )
        raise DataError(msg)
    return found
