from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyp_lightning.callbacks.schedule import Schedule
from polyp_lightning.common.errors import ConfigError


def test_schedule__linear_by_hand() -> None:
    schedule = Schedule(start=2, end=8, every=2, shape="linear")
    assert list(schedule.moments) == [2, 4, 6, 8]
    assert [schedule.left_at(e) for e in (2, 4, 6, 8)] == pytest.approx([0.75, 0.5, 0.25, 0])
    assert [schedule.left_at(e) for e in (0, 1, 3, 9)] == [None] * 4


def test_schedule__cubic_by_hand() -> None:
    # Zhu & Gupta 2017: s_f + (s_i − s_f)(1 − i/n)³.
    schedule = Schedule(start=1, end=4)
    assert [schedule.left_at(e) for e in (1, 2, 3, 4)] == pytest.approx([27 / 64, 8 / 64, 1 / 64, 0])


def test_schedule__one_shot_cuts_once() -> None:
    schedule = Schedule(start=3, end=9, shape="one_shot")
    assert list(schedule.moments) == [3]
    assert schedule.left_at(3) == 0


def test_schedule__an_end_between_cuts_reaches_the_target_at_the_last_cut() -> None:
    schedule = Schedule(start=1, end=4, every=2)
    assert list(schedule.moments) == [1, 3]
    assert schedule.left_at(3) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0}, "start is 0"),
        ({"end": 1}, "end is 1, before start"),
        ({"every": 0}, "every is 0"),
        ({"shape": "square"}, "choose linear, cubic, one_shot"),
    ],
)
def test_schedule__nonsense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schedule(**{"start": 2, "end": 4, **options})


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 7), st.sampled_from(["linear", "cubic", "one_shot"]))
def test_schedule__falls_strictly_to_the_target_within_its_moments(
    start: int, length: int, every: int, shape: Any
) -> None:
    schedule = Schedule(start, start + length, every, shape)
    left = [schedule.left_at(epoch) for epoch in schedule.moments]
    assert left == sorted(set(left), reverse=True)  # type: ignore[type-var]
    assert left[-1] == 0
    assert left[0] < 1  # type: ignore[operator]
    assert start == schedule.moments[0] <= schedule.moments[-1] <= start + length
