"""When a frame is shown, and how old it is: what the time stamps of damaged, joined and live videos are worth."""

from fractions import Fraction

_GAP_FRAMES = 10
_STRAY_SECONDS = 10
_DISORDER = 4
"""Frames by which some decoders run back; more is another recording that begins."""
_PAUSE, _FRESH = 1.0, 0.001
_DRIFT = 1e-4
"""Seconds a second by which two clocks may differ: quartz stays well below."""


class Timeline:
    """The times of frames since the first one, always growing, from stamps that may jump or begin again.

    A short gap stays one. A longer one, or a step back, is the seam of two recordings, and the next frame follows after
    one frame's time.

    Args:
        period: seconds from a frame to the next.
        gap: seconds that are a short gap; ten frames are, however slow.

    Attributes:
        jumps: how many seams there were.
    """

    def __init__(self, period: Fraction, gap: float = 10) -> None:
        self.jumps = 0
        self._period, self._last, self._least = period, -period, period / 8
        self._back, self._gap = -_DISORDER * period, max(Fraction(gap), _GAP_FRAMES * period)
        self._shift: Fraction | None = None

    def place(self, stamp: Fraction | None, elapsed: Fraction | None = None) -> Fraction:
        """Returns a frame's time in seconds.

        Args:
            stamp: the source's own; None where it has none, as in a raw stream.
            elapsed: seconds since the last frame by another clock, which a live source's seam takes.

        >>> line = Timeline(Fraction(1, 4))
        >>> [float(line.place(Fraction(stamp))) for stamp in (100, 101, 3700, 3701, 0, 1)], line.jumps
        ([0.0, 1.0, 1.25, 2.25, 2.5, 3.5], 2)
        """
        time = self._last + self._period
        if stamp is not None:
            self._shift = time - stamp if self._shift is None else self._shift
            step = stamp + self._shift - self._last
            if self._back <= step <= self._gap:
                # Two frames with the same stamp: the later one is shown as well.
                time = self._last + max(step, self._least)
            else:
                self.jumps += 1
                time = time if elapsed is None else self._last + max(elapsed, self._least)
                self._shift = time - stamp
        self._last = time
        return time


class CaptureClock:
    """Tells when the frames of a live source were taken, in seconds of ``time.monotonic``.

    A camera of Linux stamps its frames with the system's own time, which says it exactly. Other sources have a clock of
    their own; the shortest way that a packet has taken counts as none, so that all that waits in buffers after it is
    seen as age, and the network's constant part is not. Nothing is known before the first packet that had to be waited
    for: what has piled up while the source was opened comes at once.

    Args:
        offset: what to add to a stamp, where it is known.
    """

    def __init__(self, offset: float | None = None) -> None:
        self._known, self._offset, self._heard = offset, offset, 0.0
        self._settled = False

    def hear(self, stamp: float | None, now: float, waited: float) -> None:
        """Takes note of a packet.

        Args:
            stamp: when it is to be shown, by the source's clock.
            now: when it has arrived.
            waited: how long it was waited for. Nothing else can have been in a buffer then.
        """
        if stamp is None or self._known is not None:
            return
        way = now - stamp
        self._settled |= waited > _FRESH
        if self._offset is None or waited > _PAUSE or abs(way - self._offset) > _STRAY_SECONDS:
            self._offset = way
        else:
            self._offset = min(way, self._offset + _DRIFT * (now - self._heard))
        self._heard = now

    def taken(self, stamp: float | None, now: float) -> float | None:
        """Returns when a frame was taken, now at the latest; None where that is not known."""
        if stamp is None or self._offset is None or not (self._settled or self._known is not None):
            return None
        return min(now, stamp + self._offset)
