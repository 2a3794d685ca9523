"""Times of calls."""

import time

import pytest

from polyp_lightning.common import timing
from polyp_lightning.common.timing import measure_undisturbed, median_seconds


def test_median_seconds__ignores_the_warm_up_and_counts_at_least() -> None:
    pauses = iter([0.2, 0.2, 0.002, 0.002, 0.05])
    assert 0.002 <= median_seconds(lambda: time.sleep(next(pauses)), 0.0, 3) < 0.02
    assert next(pauses, None) is None


@pytest.mark.parametrize(("own", "believed"), [(1.0, True), (0.91, True), (0.89, False), (3.5, True)])
def test_undisturbed__by_the_share_of_the_wall_time(
    monkeypatch: pytest.MonkeyPatch, own: float, believed: bool
) -> None:
    """Of one second by the clock; several threads have more than one between them."""
    monkeypatch.setattr(timing.time, "perf_counter", iter([10.0, 11.0]).__next__)
    monkeypatch.setattr(timing.time, "process_time", iter([4.0, 4.0 + own]).__next__)
    assert (measure_undisturbed(lambda: 3.0) == 3.0) is believed
