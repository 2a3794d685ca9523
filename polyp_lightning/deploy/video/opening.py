"""From the name of a source to what FFmpeg opens: files, cameras and streams, each with its own options."""

import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from polyp_lightning.common.errors import DataError, hide_passwords
from polyp_lightning.deploy.extras import need

PATIENCE = 60.0
"""Seconds for which a live source that stands still is waited for and opened again."""

_OPEN_SECONDS, _READ_SECONDS = 10.0, 10.0
_LIVE = re.compile(r"(rtsp|rtmp|udp|srt)\w*://|camera(:|$)")
# A parser holds a frame back until the next one begins, and these sources send whole frames.
_UNPARSED = "noparse+nofillin"
_RTSP = {"rtsp_transport": "tcp", "fflags": f"nobuffer+{_UNPARSED}"}
_UDP = {"overrun_nonfatal": "1", "fflags": _UNPARSED}
_SRT = {"fflags": _UNPARSED}
# How each system names its cameras: FFmpeg's input format and the device for a number.
_CAMERAS = {"Linux": ("v4l2", "/dev/video{}"), "Darwin": ("avfoundation", "{}"), "Windows": ("dshow", "video={}")}


def is_live(name: str) -> bool:
    """Guesses whether a source does not wait: cameras and rtsp, rtmp, udp and srt addresses.

    >>> is_live("udp://127.0.0.1:5000"), is_live("camera:1"), is_live("https://host/recorded.mp4")
    (True, True, False)
    """
    return bool(_LIVE.match(name))


def local_path(name: str) -> Path | None:
    """The path of a source that is no camera and no address; that of ``file:///a%20b.mp4`` is ``/a b.mp4``.

    >>> str(local_path("file:///a%20b.mp4")), local_path("rtsp://host/live")
    ('/a b.mp4', None)
    """
    if not name.startswith("file:"):
        return None if "://" in name or _LIVE.match(name) else Path(name)
    rest = name.removeprefix("file:").removeprefix("//").removeprefix("localhost")
    return Path(rest) if Path(rest).exists() else Path(url2pathname(rest))


@dataclass
class Opening:
    """A source that FFmpeg opens, once or again.

    Attributes:
        shown: its name for messages, without a password.
        live: whether frames that are not taken in time are lost.
        offset: what to add to its time stamps for ``time.monotonic``, where that is known.
        read_seconds: how long one packet is waited for.
    """

    name: str
    live: bool
    shown: str = field(init=False)
    offset: float | None = field(init=False, default=None)
    read_seconds: float = field(init=False, default=_READ_SECONDS)
    _address: str = field(init=False)
    _what: str = field(init=False)
    _kind: str | None = field(init=False, default=None)
    _options: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Chooses FFmpeg's format and options."""
        self.shown, path = hide_passwords(self.name), local_path(self.name)
        self._address = str(path or self.name)
        self._what = f"the {'video' if path else 'stream'} {self.shown}"
        if path is None and "://" not in self.name:
            self._kind, pattern = _CAMERAS.get(platform.system(), _CAMERAS["Linux"])
            number = self.name.partition(":")[2] or "0"
            self._address = pattern.format(number)
            self._what = f"camera {number} ({self._address})"
            if self._kind == "v4l2":
                # Frames are stamped with the system's time when they are taken.
                self._options, self.offset = {"timestamps": "abs"}, time.monotonic() - time.time()
        elif self.live:
            kind = self.name[:4].rstrip(":")
            self._options = {"rtsp": _RTSP, "udp": _UDP, "srt": _SRT}.get(kind, {})
            # Where a sender of single packets pauses, no connection has ended that could be opened again.
            self.read_seconds = PATIENCE if kind == "udp" else _READ_SECONDS

    def open(self, seconds: float = _OPEN_SECONDS) -> Any:
        """Opens it, within so many seconds.

        Raises:
            DataError: it is not there, or nothing that FFmpeg reads.
        """
        av = need("av")
        try:
            return av.open(
                self._address, format=self._kind, options=self._options, timeout=(seconds, self.read_seconds)
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            msg = (
                f"{self._what} can't be opened: {reason}. Check --source: is it there, whole, and not in use elsewhere?"
            )
            raise DataError(msg) from error

    def open_again(self, deadline: float, is_over: Callable[[], bool]) -> Any:
        """Opens it once more, and goes on trying until a moment of ``time.monotonic``; None in vain."""
        while (left := deadline - time.monotonic()) > 0 and not is_over():
            try:
                return self.open(min(left, _OPEN_SECONDS))
            except DataError:
                time.sleep(0.5)
        return None


def choose_stream(container: Any, shown: str) -> Any:
    """Chooses the video of a container; a cover picture is none.

    Raises:
        DataError: there is none, or none that FFmpeg decodes.
    """
    cover = need("av").stream.Disposition.attached_pic
    moving = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not moving:
        found = ["a picture" if s.type == "video" else s.type for s in container.streams]
        msg = f"--source {shown} holds no video, only {', '.join(found) or 'nothing'}"
        raise DataError(msg)
    # Not every writer marks its picture: it is the video of one frame, where another has more.
    moving = [stream for stream in moving if stream.frames != 1] or moving
    best = container.streams.best("video")
    stream = next((one for one in moving if best is not None and one.index == best.index), moving[0])
    if stream.codec_context is None:
        msg = f"--source {shown}: FFmpeg knows no decoder for this video's codec; convert it to H.264"
        raise DataError(msg)
    return stream
