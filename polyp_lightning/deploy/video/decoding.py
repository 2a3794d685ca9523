"""Frames from a video file, a folder of images, a camera or a network stream, by PyAV."""

import contextlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.listing import SUFFIXES, list_images
from polyp_lightning.data.reading import read_image
from polyp_lightning.deploy.extras import need

FOLDER_RATE = Fraction(25)
"""Frames per second at which a folder of images is shown."""

_OPEN_SECONDS, _READ_SECONDS = 10.0, 10.0
# How each system names its cameras: FFmpeg's input format and the device for a number.
_CAMERAS = {"Linux": ("v4l2", "/dev/video{}"), "Darwin": ("avfoundation", "{}"), "Windows": ("dshow", "video={}")}


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        pixels: RGB, uint8 (H, W, 3), writable.
        time: seconds since the first frame of the source, by the source's own clock.
    """

    pixels: NDArray[np.uint8]
    time: Fraction


def open_source(name: str, threads: int = 1) -> "Source":
    """Opens a video file, a folder of images, ``camera`` or ``camera:N``, or an address such as ``rtsp://…``.

    Raises:
        DataError: it is not there, or no video that can be decoded.
    """
    path = Path(name)
    if name == "camera" or name.startswith("camera:"):
        return _open_camera(name.partition(":")[2] or "0", threads)
    if "://" in name:
        options = {"rtsp_transport": "tcp"} if name.startswith("rtsp") else {}
        return Video(_open(name, None, options, f"the stream {name}"), name, threads, live=True)
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        msg = f"--source {name} is neither a file nor a folder, nor `camera`, nor an address such as rtsp://…"
        raise DataError(msg)
    return Video(_open(name, None, {}, f"the video {name}"), name, threads, live=False)


class Video:
    """A file, camera or stream that FFmpeg decodes.

    A packet that can't be decoded is counted and passed over, and so is a frame that the decoder marks as damaged
    (it is still shown: most of it is there).

    Args:
        container: an open input of PyAV.
        name: for messages.
        threads: threads of the decoder.
        live: whether it is a camera or stream: frames that are not taken in time are lost.

    Attributes:
        rate: frames per second.
        broken: frames so far that could not be decoded, or only in part.
    """

    def __init__(self, container: Any, name: str, threads: int, live: bool) -> None:
        self._container, self.live, self.broken = container, live, 0
        self._announced, self._failed = 0, 0
        if not container.streams.video:
            msg = f"--source {name} holds no video, only {', '.join(s.type for s in container.streams) or 'nothing'}"
            raise DataError(msg)
        self._stream = container.streams.video[0]
        if self._stream.codec_context is None:
            msg = f"--source {name}: FFmpeg knows no decoder for this video's codec; convert it to H.264"
            raise DataError(msg)
        self._stream.codec_context.thread_count = threads
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or FOLDER_RATE)

    def __iter__(self) -> Iterator[Frame]:
        """Yields frames to the end of what can be decoded."""
        first: Fraction | None = None
        shown = 0
        for frame in self._decode():
            self.broken += bool(frame.is_corrupt)
            unit = frame.time_base or self._stream.time_base
            # A raw stream has no times of its own.
            time = shown / self.rate if frame.pts is None else frame.pts * Fraction(unit)
            first = time if first is None else first
            shown += 1
            yield Frame(frame.to_ndarray(format="rgb24"), time - first)
        # Some decoders skip what they can't read without a word, and a file that was cut short holds less than its
        # index says.
        lost = max(self._announced, self._stream.frames) - shown
        self.broken += max(0, lost - self._failed)

    def _decode(self) -> Iterator[Any]:
        for packet in self._read_packets():
            self._announced += packet.size > 0 and not packet.is_discard
            yield from self._decode_packet(packet)
        # Where reading ends by an error, as when a sender hangs up, the decoder still holds frames.
        with contextlib.suppress(need("av").error.FFmpegError):
            yield from self._stream.codec_context.decode(None)

    def _decode_packet(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except need("av").error.FFmpegError:
            self._failed += 1
            self.broken += 1
            return []

    def _read_packets(self) -> Iterator[Any]:
        """Yields packets to the end of what can be read."""
        # An error, as when a sender hangs up, ends a stream like any other end.
        with contextlib.suppress(need("av").error.FFmpegError):
            yield from self._container.demux(self._stream)

    def close(self) -> None:
        """Closes the input."""
        self._container.close()


class Folder:
    """The images of a folder in natural order; the attributes are those of :class:`Video`.

    Raises:
        DataError: there is no image in it.
    """

    def __init__(self, path: Path) -> None:
        self.rate, self.live, self.broken = FOLDER_RATE, False, 0
        self._files = list_images(path)
        if not self._files:
            msg = f"--source {path} holds no image ({', '.join(SUFFIXES)})"
            raise DataError(msg)

    def __iter__(self) -> Iterator[Frame]:
        """Yields one frame a file; unreadable files are counted and passed over."""
        for index, file in enumerate(self._files):
            try:
                # A copy: the pixels of a decoded picture can't be drawn on.
                yield Frame(np.array(read_image(file)), index / self.rate)
            except DataError:
                self.broken += 1

    def close(self) -> None:
        """Nothing is open."""


Source = Video | Folder


def _open_camera(number: str, threads: int) -> Video:
    kind, pattern = _CAMERAS.get(platform.system(), _CAMERAS["Linux"])
    device = pattern.format(number)
    return Video(_open(device, kind, {}, f"camera {number} ({device})"), f"camera:{number}", threads, live=True)


def _open(address: str, kind: str | None, options: dict[str, str], what: str) -> Any:
    av = need("av")
    try:
        return av.open(address, format=kind, options=options, timeout=(_OPEN_SECONDS, _READ_SECONDS))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"{what} can't be opened: {reason}. Check --source: is it there, whole, and not in use elsewhere?"
        raise DataError(msg) from error
