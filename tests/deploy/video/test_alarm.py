import time
from fractions import Fraction

import numpy as np
import pytest

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.frame_rule import frame_score
from polyp_lightning.deploy.video.alarm import Alarms, LastingAlarm


@pytest.mark.parametrize(("needed", "window"), [(1, 1), (3, 3), (5, 8)])
def test_lasting_alarm__equals_a_loop_over_the_last_frames(needed: int, window: int) -> None:
    frames = np.random.default_rng(needed).random(200) < 0.5
    alarm = LastingAlarm(needed, window)
    given = [alarm.update(bool(frame)) for frame in frames]
    expected = [sum(frames[max(0, i - window + 1) : i + 1]) >= needed for i in range(len(frames))]
    assert given == expected
    assert alarm.started == sum(now and not before for before, now in zip([False, *expected], expected, strict=False))
    assert 0 < alarm.started < 200


@pytest.mark.parametrize(("needed", "window"), [(0, 3), (4, 3)])
def test_lasting_alarm__refuses_a_rule(needed: int, window: int) -> None:
    with pytest.raises(ConfigError, match=rf"--alarm_frames {needed} .*--alarm_window {window}"):
        LastingAlarm(needed, window)


def test_alarms__a_minute_is_one_of_the_video() -> None:
    alarms = Alarms(LastingAlarm(2, 2))
    # 30 seconds: three single frames, and one polyp of two frames.
    for number in range(301):
        alarms.update(number in {10, 50, 90, 200, 201}, Fraction(number, 10))
    assert alarms.per_minute(alarms.lasting) == 2
    assert alarms.per_minute(alarms.single) == 8
    assert str(alarms) == "alarms that last 2 of 2 frames: 1, 2.0 a minute (of single frames 8.0)"


def test_alarms__take_little_time() -> None:
    # 5 % of the 8 ms of the fastest network that ships; here the least of several tries, which other work can't raise.
    alarms, seconds = Alarms(LastingAlarm(5, 8)), []
    map_ = np.random.default_rng(0).random((352, 352), dtype=np.float32)
    for number in range(30):
        start = time.perf_counter()
        alarms.update(frame_score(map_) > 0.5, Fraction(number))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05 * 0.008
