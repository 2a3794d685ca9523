"""Times of calls."""

import time

from polyp_lightning.common.timing import median_seconds


def test_median_seconds__ignores_the_warm_up_and_counts_at_least() -> None:
    pauses = iter([0.2, 0.2, 0.002, 0.002, 0.05])
    assert 0.002 <= median_seconds(lambda: time.sleep(next(pauses)), 0.0, 3) < 0.02
    assert next(pauses, None) is None
