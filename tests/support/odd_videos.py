"""Videos as recorders and cameras really write them, made by PyAV: turned, squeezed, interlaced, joined, tagged."""

import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from threading import Thread
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def write_frames(
    path: Path | str, frames: Iterable[NDArray[np.uint8]], codec: str = "libx264", pixels: str = "yuv420p",
    options: dict[str, str] | None = None, prepare: Callable[[Any], object] = lambda _: None,
    times: Sequence[float] | None = None, container_format: str | None = None, muxer: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """Writes RGB frames at 25 per second or at their times, after the stream has been prepared."""
    frames = list(frames)
    with av.open(str(path), "w", format=container_format, options=muxer or {}) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options or {"crf": "5", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        prepare(stream)
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if times:
                frame.pts, frame.time_base = round(1000 * times[index]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def corners(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A black picture whose upper left quarter is red and whose upper right one is blue."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (220, 20, 20)
    picture[: height // 2, width // 2 :] = (20, 20, 220)
    return picture


def seen_corners(picture: NDArray[np.uint8]) -> str:
    """The colours (r, b, - for black) of the four quarters, row by row."""
    height, width = picture.shape[:2]
    found = ""
    for row in (height // 4, 3 * height // 4):
        for column in (width // 4, 3 * width // 4):
            red, _, blue = picture[row, column].astype(int)
            found += "r" if red > 120 else "b" if blue > 120 else "-"
    return found


def stamped(value: int, height: int = 64, width: int = 256) -> NDArray[np.uint8]:
    """A picture that shows a number of 32 bits as 32 bright or dark columns."""
    bits = [(value >> bit) & 1 for bit in range(32)]
    return np.repeat(np.tile(np.repeat(np.array(bits, np.uint8) * 200 + 20, width // 32), (height, 1))[..., None], 3, 2)


def read_stamp(picture: NDArray[np.uint8]) -> int:
    """The number that :func:`stamped` shows, from the middle rows."""
    height, width = picture.shape[:2]
    columns = (np.arange(32) + 0.5) * width / 32
    return sum(int(picture[height * 3 // 4, int(x), 0] > 120) << bit for bit, x in enumerate(columns))


def milliseconds() -> int:
    return int(1000 * time.monotonic()) & 0xFFFFFFFF


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broadcast(Thread):
    """Sends MPEG-TS by UDP to this machine: pictures that carry the time at which they were made.

    Args:
        port: of the receiver.
        seconds: how long it sends.
        pause: at which second it falls silent, and for how long.
    """

    def __init__(self, port: int, seconds: float, pause: tuple[float, float] = (1e9, 0.0), rate: int = 25) -> None:
        super().__init__(daemon=True)
        self.address = f"udp://127.0.0.1:{port}"
        self._seconds, self._pause, self._rate = seconds, pause, rate

    def run(self) -> None:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "crf": "10"}
        with av.open(
            f"{self.address}?pkt_size=1316", "w", format="mpegts", options={"flush_packets": "1"}
        ) as container:
            stream: Any = container.add_stream("libx264", rate=self._rate, options=options)
            stream.height, stream.width, stream.pix_fmt = 64, 256, "yuv420p"
            start = time.monotonic()
            for index in range(round(self._seconds * self._rate)):
                moment = index / self._rate
                due = moment + (self._pause[1] if moment >= self._pause[0] else 0.0)
                time.sleep(max(0.0, start + due - time.monotonic()))
                frame = av.VideoFrame.from_ndarray(stamped(milliseconds()), format="rgb24")
                frame.pts, frame.time_base = round(1000 * due), Fraction(1, 1000)
                stream.codec_context.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))


def set_matrix(path: Path, matrix: Sequence[int]) -> None:
    """Writes a display matrix into the track header of an .mp4: nine big-endian numbers, 16.16 and 2.30."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    struct.pack_into(">9i", data, start, *matrix)
    path.write_bytes(data)
