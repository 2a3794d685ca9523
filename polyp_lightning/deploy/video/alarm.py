"""Alarms of a video: one has to last, so that a single frame does not give one."""

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

from polyp_lightning.common.errors import ConfigError


class LastingAlarm:
    """Gives an alarm while at least so many of the last frames show a polyp.

    Args:
        needed: frames that have to show one, at least 1.
        window: of how many last frames.

    Attributes:
        on: whether there is an alarm now.
        started: how many alarms there were, each counted once however long it lasted.

    Raises:
        ConfigError: fewer than one are needed, or more than there are.
    """

    def __init__(self, needed: int, window: int) -> None:
        if not 1 <= needed <= window:
            msg = f"--alarm_frames {needed} must be at least 1 and at most --alarm_window {window}"
            raise ConfigError(msg)
        self.needed, self.on, self.started = needed, False, 0
        self._last: deque[bool] = deque(maxlen=window)

    def update(self, polyp: bool) -> bool:
        """Takes whether the next frame shows a polyp; returns whether there is an alarm."""
        self._last.append(polyp)
        was, self.on = self.on, sum(self._last) >= self.needed
        self.started += self.on and not was
        return self.on

    def __str__(self) -> str:
        """The rule, for people."""
        return f"{self.needed} of {self._last.maxlen} frames"


@dataclass
class Alarms:
    """The alarms of a video by a rule, and beside it those that single frames would have given.

    ``seconds`` is the time of the last frame by the video's own clock.
    """

    lasting: LastingAlarm
    single: LastingAlarm = field(default_factory=lambda: LastingAlarm(1, 1))
    seconds: float = 0.0

    def update(self, polyp: bool, time: Fraction) -> bool:
        """Takes whether the next frame shows a polyp, and its time in seconds; returns whether there is an alarm."""
        self.seconds = max(self.seconds, float(time))
        self.single.update(polyp)
        return self.lasting.update(polyp)

    def per_minute(self, alarm: LastingAlarm) -> float:
        """How many of its alarms began in a minute of video; NaN for a single frame."""
        return 60 * alarm.started / self.seconds if self.seconds else float("nan")

    def __str__(self) -> str:
        """In a few words for people."""
        lasting, single = self.lasting, self.single
        return (
            f"alarms that last {lasting}: {lasting.started}, {self.per_minute(lasting):.1f} a minute "
            f"(of single frames {self.per_minute(single):.1f})"
        )
