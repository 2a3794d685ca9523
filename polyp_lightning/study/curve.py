"""To what share of the MACs does pruning hold? Every budget against the dense network, by seed and image."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from polyp_lightning.common.tables import read_rows, write_rows
from polyp_lightning.study.replicates import DENSE, Replicates, Setting, keep_common_seeds
from polyp_lightning.study.results import ImageScore
from polyp_lightning.study.statistics import RESAMPLES, Values, pair_scores

ALL = "all"
ALPHA = 0.025
"""Of one-sided tests: they agree with the lower end of a two-sided 95 % interval."""

MARGINS = {"dice": (0.01, 0.02), "hd95": (0.05, 0.1)}
"""How much worse still counts as no worse, by metric: in Dice, and for HD95 as a share of the dense network's."""


@dataclass(frozen=True)
class CurvePoint(Setting):
    """One method at one budget by one metric: the numbers of a seed, or of all seeds together. Unknown numbers are NaN.

    Attributes:
        seed: its number, or ``all``.
        schedule: as in a study's results; ``outside`` is other software's cut.
        share: MACs as a share of the dense network's.
        params_share: used parameters likewise.
        metric: dice, or hd95 in pixels.
        images: test images that count, which for HD95 are those where both networks have one.
        value: mean over images.
        difference: the mean of the method minus dense, paired over images and seeds.
        low: lower end of its 95 % interval, of all seeds.
        high: upper end; likewise.
        p_strict: one-sided p of being worse by the first of :data:`MARGINS` or more, of all seeds.
        p_loose: by the second.
    """

    epochs: int
    method: str
    schedule: str
    target: float
    seed: str
    gmacs: float
    share: float
    params: float
    params_share: float
    ms: float
    metric: str
    images: int
    value: float
    difference: float
    low: float
    high: float
    p_strict: float
    p_loose: float


def resample_means(values: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> Values:
    """Resamples seeds and images, each with replacement and independently, and returns the means (resamples,).

    Owen's pigeonhole bootstrap of a crossed layout (Ann. Appl. Stat. 1, 2007, doi:10.1214/07-AOAS122): other images
    and other seeds would change the mean, and a hard image is hard under every seed. ``values`` are (seeds, images);
    NaN, where there is none, does not count.
    """
    by_seed, by_image = (_draw(size, resamples, seed + axis) for axis, size in enumerate(values.shape))
    known, filled = ~np.isnan(values), np.nan_to_num(values)
    counts, sums = (((by_seed @ each) * by_image).sum(1) for each in (known, filled))
    # None of few images may have a value in a resample.
    means: Values = sums[counts > 0] / counts[counts > 0]
    return means


@lru_cache(maxsize=8)
def _draw(size: int, resamples: int, seed: int) -> Values:
    """Draws how often each of ``size`` things is in each resample: (resamples, size)."""
    counts = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), resamples)
    return counts.astype(np.float64)


def find_p(contrast: Values) -> float:
    """Returns the one-sided p of a mean contrast of at most zero, by :func:`resample_means`; NaN for a single seed."""
    if len(contrast) < 2 or np.isnan(contrast).all():
        return math.nan
    means = resample_means(contrast)
    return float((1 + (means <= 0).sum()) / (1 + len(means)))


def adjust_in_sequence(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values of hypotheses that are tested in a fixed order, each only if those before it were rejected.

    Each gets the largest up to itself, so that no correction is needed for their number (Westfall and Krishen, J. Stat.
    Plan. Inference 99, 2001, doi:10.1016/S0378-3758(01)00077-5). What was not tested stops the sequence.

    >>> adjust_in_sequence([0.01, 0.2, 0.001])
    [0.01, 0.2, 0.2]
    """
    largest, adjusted = 0.0, []
    for p in p_values:
        largest = max(largest, 1.0 if math.isnan(p) else p)
        adjusted.append(largest)
    return adjusted


def find_held(points: Sequence[CurvePoint], metric: str, column: str) -> CurvePoint | None:
    """Finds the smallest budget down to which a method is not inferior to dense; None where it is at none.

    Args:
        points: of one method and setting.
        metric: by which.
        column: ``p_strict`` or ``p_loose``.
    """
    own = sorted((one for one in points if (one.seed, one.metric) == (ALL, metric)), key=lambda one: -one.target)
    adjusted = adjust_in_sequence([getattr(one, column) for one in own])
    return next((one for one, p in reversed(list(zip(own, adjusted, strict=True))) if p <= ALPHA), None)


def build_curve(found: Sequence[Replicates], images: Mapping[str, Sequence[ImageScore]]) -> list[CurvePoint]:
    """Compares every method and budget with the dense network of the same setting, epochs and seeds.

    Raises:
        DataError: a run has no values of single images, or not of the same images as another.
    """
    points: list[CurvePoint] = []
    for dense in (cell for cell in found if cell.method == DENSE):
        for cell in found:
            if (cell.setting, cell.epochs) != (dense.setting, dense.epochs):
                continue
            ours, theirs = keep_common_seeds(cell, dense)
            if ours.rows:
                points += [point for metric in MARGINS for point in _compare(ours, theirs, metric, images)]
    return points


def read_curve(path: Path) -> list[CurvePoint]:
    """Reads what :func:`write_curve` has written.

    Raises:
        DataError: it is no such table.
    """
    return read_rows(path, CurvePoint)


def write_curve(path: Path, points: Sequence[CurvePoint]) -> None:
    """Writes the points of a curve as a CSV file."""
    write_rows(path, CurvePoint, points)


def _compare(
    ours: Replicates, dense: Replicates, metric: str, images: Mapping[str, Sequence[ImageScore]]
) -> Iterator[CurvePoint]:
    """Yields the point of all seeds, then of each."""
    a, b = pair_scores(ours, dense, images, metric)
    a, b = np.where(np.isnan(b), np.nan, a), np.where(np.isnan(a), np.nan, b)
    if np.isnan(a).all():
        return
    yield _point(ours, ALL, metric, a, b)
    for seed, one, other in zip(ours.seeds, a, b, strict=True):
        if not np.isnan(one).all():
            yield _point(ours.only([seed]), str(seed), metric, one[None], other[None])


def _point(cell: Replicates, seed: str, metric: str, a: Values, b: Values) -> CurvePoint:
    """The scores (seeds, images) are those of the cell's runs and of the dense ones."""
    low = high = math.nan
    if len(a) > 1:
        low, high = map(float, np.quantile(resample_means(a - b), (0.025, 0.975)))
    strict, loose = (find_p(_contrast(a, b, metric, margin)) for margin in MARGINS[metric])
    return CurvePoint(
        **vars(cell.setting),
        epochs=cell.epochs,
        method=cell.method,
        schedule=cell.rows[0].schedule,
        target=cell.target,
        seed=seed,
        gmacs=cell.mean("gmacs"),
        share=cell.mean("gmacs") / cell.mean("dense_gmacs"),
        params=cell.mean("params"),
        params_share=cell.mean("params") / cell.mean("dense_params"),
        ms=cell.mean("ms"),
        metric=metric,
        images=int((~np.isnan(a)).any(0).sum()),
        value=float(np.nanmean(a)),
        difference=float(np.nanmean(a - b)),
        low=low,
        high=high,
        p_strict=strict,
        p_loose=loose,
    )


def _contrast(a: Values, b: Values, metric: str, margin: float) -> Values:
    """What is above zero on average where a is not worse than b by the margin."""
    return a - b + margin if metric == "dice" else (1 + margin) * b - a
