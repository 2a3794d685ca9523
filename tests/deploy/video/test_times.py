"""Times and ages, reckoned by hand."""

from fractions import Fraction
from itertools import pairwise

import pytest

from polyp_lightning.deploy.video.times import CaptureClock, Timeline


@pytest.mark.parametrize(
    ("stamps", "times", "jumps"),
    [
        # A gap stays one, up to 10 s.
        ([0, 1, 2, 12, 13], [0, 1, 2, 12, 13], 0),
        # An hour's jump, and the stamps of a second recording.
        ([7, 8, 3608, 3609], [0, 1, 2, 3], 1),
        ([7, 8, 9, 1, 2], [0, 1, 2, 3, 4], 1),
        ([7, 8, 9, 10**5, 3, 4], [0, 1, 2, 3, 4, 5], 2),
        # Without stamps, throughout or in between.
        ([None, None, None], [0, 1, 2], 0),
        ([5, None, 7], [0, 1, 2], 0),
    ],
)
def test_timeline__by_hand(stamps: list[float | None], times: list[float], jumps: int) -> None:
    line = Timeline(Fraction(1))
    assert [line.place(None if stamp is None else Fraction(stamp)) for stamp in stamps] == times
    assert line.jumps == jumps


def test_timeline__frames_in_disorder_or_at_one_time_don_t_shift_the_rest() -> None:
    line = Timeline(Fraction(1, 25))
    placed = [line.place(Fraction(number, 25)) for number in (0, 2, 1, 3, 3, 4)]
    assert [float(placed[i]) for i in (0, 1, 3, 5)] == [0, 2 / 25, 3 / 25, 4 / 25]
    assert all(later > earlier for earlier, later in pairwise(placed))
    assert line.jumps == 0


def test_timeline__a_live_source_s_pause_lasts_as_long_as_it_did() -> None:
    line = Timeline(Fraction(1))
    assert [line.place(Fraction(stamp), Fraction(13)) for stamp in (50, 0, 1)] == [0, 13, 14]


def test_capture_clock__age_is_what_is_beyond_the_shortest_way() -> None:
    clock = CaptureClock()
    clock.hear(100.0, 5.0, 0.0)
    # What has piled up while the source was opened: nobody knows yet.
    assert clock.taken(100.0, 5.0) is None
    for number, way in enumerate((0.03, 0.01, 0.02), 1):
        clock.hear(100.0 + number, 5.0 + number + way - 1, 0.5)
    # The shortest way was that of the second, 0.01.
    assert clock.taken(103.0, 7.5) == pytest.approx(7.01, abs=1e-3)
    # A frame is never younger than now.
    assert clock.taken(200.0, 8.0) == 8.0
    assert clock.taken(None, 8.0) is None


def test_capture_clock__a_queue_that_grows_is_age_and_a_pause_is_none() -> None:
    clock = CaptureClock()
    clock.hear(0.0, 10.0, 0.1)
    # It arrives 3 s late without having been waited for: it lay in a buffer.
    clock.hear(1.0, 14.0, 0.0)
    assert 14.0 - float(clock.taken(1.0, 14.0) or 0) == pytest.approx(3.0, abs=1e-2)
    # The sender paused for 5 s and went on with its stamps: the packet is fresh.
    clock.hear(2.0, 20.0, 5.0)
    assert clock.taken(2.0, 20.0) == pytest.approx(20.0)


def test_capture_clock__a_camera_that_stamps_by_the_system_s_clock() -> None:
    clock = CaptureClock(offset=-1000.0)
    assert clock.taken(1007.25, 8.0) == 7.25
