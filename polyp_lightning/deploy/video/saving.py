"""Writing a video that ordinary players play."""

import glob
import os
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.video.upright import Colours, complete_colours

CONTAINERS = (".mp4", ".mkv", ".mov")
# H.264 where the FFmpeg in PyAV's wheel can write it, else what every player has known for longer.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    # Fast before small, so that a second core can decode, draw and encode at 120 frames per second: a 560×480 frame
    # takes 2 ms, at the preset "veryfast" 6 ms for two thirds of the size. Without B-frames: with them, MP4's duration
    # is wrong where frames are missing.
    ("libx264", {"preset": "ultrafast", "crf": "18", "bf": "0"}),
    ("libopenh264", {}),
    ("mpeg4", {"qmin": "2", "qmax": "3"}),
)
_TICKS = 60_000
"""Ticks a second of the time base: a multiple of the usual frame rates, and below the 65,536 that MPEG-4 allows."""


def check_output(path: Path, overwrite: bool) -> None:
    """Checks that a video can be called so, and that there is none yet unless it may be replaced."""
    if path.suffix.lower() not in CONTAINERS:
        msg = f"--output {path}: a video's name ends in one of {', '.join(CONTAINERS)}"
        raise ConfigError(msg)
    if path.exists() and not overwrite:
        msg = f"--output {path} exists already; name another file, or replace it with --overwrite"
        raise ConfigError(msg)


class VideoWriter:
    """A video in yuv420p with the source's times; the file appears under its name when it is closed.

    Use it in a ``with`` block: at its end, by an error or an interrupt too, what was written so far is finished and
    playable; a file without a frame is removed.

    The suffix is one of :data:`CONTAINERS`, the rate that of the source in frames per second. ``encoder`` is the one in
    use, once a frame has been written.
    """

    def __init__(self, path: Path, rate: Fraction, overwrite: bool = False) -> None:
        check_output(path, overwrite)
        self.path, self.encoder = path, ""
        self._rate, self._last, self._size = rate, -1, (0, 0)
        self._beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self._container: Any = None
        self._stream: Any = None

    def write(self, pixels: NDArray[np.uint8], time: Fraction, colours: Colours | None = None) -> None:
        """Adds an RGB frame.

        Args:
            pixels: the frame; it is resized to the first one's size.
            time: in seconds since the source's first.
            colours: those of the source, which the first frame's decides; by default those usual at its size.
        """
        av = need("av")
        if self._container is None:
            self._open(pixels.shape[0], pixels.shape[1], colours)
        # Players read the matrix from the file, or guess it by the size: both have to be the one that was used.
        frame = self._scaler.reformat(
            av.VideoFrame.from_ndarray(_fit(pixels, self._size), format="rgb24"),
            format="yuv420p",
            dst_colorspace=self._colours.scaler,
            dst_color_range="MPEG",
            threads=1,
        )
        # Times of damaged sources may stand still or run back, which no container takes.
        self._last = max(self._last + 1, round(time * _TICKS))
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        try:
            self._container.mux(self._stream.encode(frame))
        except av.error.FFmpegError as error:
            msg = f"--output {self.path} can't be written on: {error.strerror}; what was written so far is kept"
            raise ConfigError(msg) from error

    def _open(self, height: int, width: int, colours: Colours | None) -> None:
        av = need("av")
        self._scaler = av.video.reformatter.VideoReformatter()
        self._colours = colours or complete_colours(height, width)
        # yuv420p halves both sides.
        self._size = (width + width % 2, height + height % 2)
        self.encoder, options = next((e, o) for e, o in _ENCODERS if e in av.codecs_available)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The index in front, so that a player starts before it has everything.
            faststart = {"movflags": "+faststart"} if self.path.suffix.lower() in (".mp4", ".mov") else {}
            self._container = av.open(str(self._beside), "w", options=faststart)
        except OSError as error:
            msg = f"--output {self.path} can't be written: {error.strerror or error}"
            raise ConfigError(msg) from error
        self._stream = self._container.add_stream(self.encoder, rate=self._rate, options=dict(options))
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        for name, value in zip(("colorspace", "color_primaries", "color_trc"), self._colours, strict=True):
            setattr(self._stream.codec_context, name, value)
        self._stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG

    def __enter__(self) -> Self:
        """Opens nothing yet: the first frame decides the size."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes the file."""
        if self._container is None:
            return
        # Every step is taken, the last one first, even if one fails: what was written so far may well be playable.
        with ExitStack() as steps:
            steps.callback(self._beside.unlink, missing_ok=True)
            steps.callback(self._beside.replace, self.path)
            steps.callback(self._container.close)
            steps.callback(lambda: self._container.mux(self._stream.encode()))

    def clear_leftovers(self) -> list[Path]:
        """Finds the files beside this one that a process began and could not finish, as when it was killed.

        The index of an .mp4 or .mov is written last and nothing plays them without: they are removed. An .mkv plays to
        where it ends, and stays.
        """
        found = sorted(self.path.parent.glob(f".{glob.escape(self.path.stem)}.*{self.path.suffix}"))
        dead = [path for path in found if _is_dead(path.name.split(".")[-2])]
        for path in dead if self.path.suffix.lower() != ".mkv" else []:
            path.unlink(missing_ok=True)
        return dead


def _is_dead(pid: str) -> bool:
    """Whether there is no process of this number. Only asked where asking does not disturb it."""
    if not pid.isdigit() or os.name != "posix":
        return False
    try:
        os.kill(int(pid), 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, ProcessLookupError)
    return False


def _fit(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Brings a frame to the video's size: one row or column is repeated to make it even, anything else is resized."""
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    if (width + width % 2, height + height % 2) == size:
        bottom, right = size[1] - height, size[0] - width
        return np.asarray(cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
