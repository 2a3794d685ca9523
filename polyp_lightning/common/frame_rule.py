"""When a frame shows a polyp: the one rule of ``test``, ``predict``, ``stream`` and the reports.

A frame shows a polyp, and gives an alarm, where its score exceeds the network's alarm threshold. The score is the
probability that at least 0.1 % of the pixels of the network's map reach: fewer are specks. A false alarm is one on a
frame without a polyp.
"""

import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 0.001
"""The share of a frame's pixels that decides."""

ALARM_THRESHOLD = 0.5
"""The threshold of networks for which none was chosen on validation images."""


def count_deciding(pixels: int) -> int:
    """Returns how many of so many pixels decide."""
    return max(1, round(LEAST_SHARE * pixels))


def frame_score(probability: NDArray[np.float32]) -> float:
    """Returns a map's score: the probability of the weakest of the pixels that decide, the highest 0.1 %.

    >>> one = np.zeros((100, 100), np.float32); one[0, :10] = 0.75
    >>> frame_score(one)
    0.75
    """
    values = probability.ravel()
    rank = count_deciding(values.size)
    return float(np.partition(values, values.size - rank)[values.size - rank])
