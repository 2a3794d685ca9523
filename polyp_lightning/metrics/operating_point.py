"""Alarms at every threshold at once: the ROC of frames' scores, and the threshold to choose."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def roc(scores: ArrayLike, polyps: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Computes the receiver operating characteristic of frames.

    Takes each frame's score and whether it shows a polyp. Returns thresholds in falling order, from infinity to each
    score, and at each the false-alarm rate and the sensitivity of ``score >= threshold``; a rate of no frames is NaN.
    """
    values, truth = np.asarray(scores, float), np.asarray(polyps, bool)
    thresholds = np.concatenate([[np.inf], np.unique(values)[::-1]])

    def rate(of: NDArray[np.float64]) -> NDArray[np.float64]:
        above = of.size - np.searchsorted(np.sort(of), thresholds, side="left")
        return above / of.size if of.size else np.full(thresholds.shape, np.nan)

    return thresholds, rate(values[~truth]), rate(values[truth])


def area_under_roc(scores: ArrayLike, polyps: ArrayLike) -> float:
    """Computes the area under the ROC, NaN where there are no frames of a kind.

    It is the probability that a frame with a polyp scores higher than one without, ties counted half.
    """
    _, false_alarms, sensitivity = roc(scores, polyps)
    return float(np.trapezoid(sensitivity, false_alarms))


def choose_threshold(scores: ArrayLike, polyps: ArrayLike, sensitivity: float = 0.9) -> float:
    """Chooses the highest threshold, that of the fewest false alarms, at which so many polyp frames give an alarm.

    It lies halfway between the weakest score that is still to give an alarm and the next one below, so that rounding
    changes no alarm on these frames.

    Raises:
        ValueError: no frame shows a polyp.
    """
    values, truth = np.asarray(scores, float), np.asarray(polyps, bool)
    if not truth.any():
        msg = "no frame shows a polyp, so there is no sensitivity to choose a threshold by"
        raise ValueError(msg)
    found = np.sort(values[truth])[::-1]
    # Rounded first: 0.9 of 10 are 9, whatever floats make of it.
    weakest = found[int(np.ceil(round(sensitivity * found.size, 9))) - 1]
    below = values[values < weakest]
    return float((weakest + (below.max() if below.size else 0.0)) / 2)
