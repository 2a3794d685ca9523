"""Videos made by PyAV: drawn frames that can be told apart after encoding."""

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def level(index: int) -> int:
    """The brightness of the frame with this number."""
    return 40 + 8 * (index % 20)


def picture(index: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A grey frame of its own level with a white stripe."""
    frame = np.full((height, width, 3), level(index), np.uint8)
    frame[:, :8] = 255
    return frame


def write_video(
    path: Path, count: int, rate: Fraction = Fraction(25), codec: str = "libx264", size: tuple[int, int] = (48, 64),
    options: dict[str, str] | None = None, pixels: str = "yuv420p",
) -> Path:  # fmt: skip
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        for index in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")))
        container.mux(stream.encode())
    return path


def read_video(path: Path) -> tuple[list[NDArray[np.uint8]], Any]:
    """All frames and the facts (rate, seconds, codec) that a player would see."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        facts = {
            "rate": stream.average_rate, "codec": stream.codec_context.name, "format": stream.pix_fmt,
            "seconds": float(container.duration / 1e6), "size": (stream.height, stream.width),
        }  # fmt: skip
    return frames, facts


def read_frames(path: Path) -> list[NDArray[np.uint8]]:
    """As many frames as can be read of a file that may end anywhere."""
    frames = []
    with av.open(str(path)) as container, contextlib.suppress(av.error.FFmpegError):
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
    return frames


def levels(frames: Sequence[NDArray[np.uint8]]) -> list[int]:
    """The numbers modulo 20 of frames, by their brightness."""
    return [round((float(np.median(frame[:, frame.shape[1] // 2 :])) - 40) / 8) % 20 for frame in frames]
