"""Frames from a video file, a folder of images, a camera or a network stream, by PyAV."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import DataError, join_names
from polyp_lightning.data.listing import SUFFIXES, list_images
from polyp_lightning.data.reading import read_image
from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.video import opening
from polyp_lightning.deploy.video.opening import Opening, choose_stream, is_live, local_path
from polyp_lightning.deploy.video.times import CaptureClock, Timeline
from polyp_lightning.deploy.video.upright import Colours, Converter, Deinterlacer

FOLDER_RATE = Fraction(25)
"""Frames per second at which a folder of images is shown."""

_STOOD_STILL = 2.0
"""Seconds without a packet that are worth a line in the report."""


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        pixels: RGB, uint8 (H, W, 3), writable, upright and with square pixels.
        time: seconds since the first frame of the source; later frames have later times.
        taken: when a live source's frame was taken, by ``time.monotonic``, where that is known.
        colours: what its colours were in the source.
    """

    pixels: NDArray[np.uint8]
    time: Fraction
    taken: float | None = None
    colours: Colours | None = None


def open_source(name: str, threads: int = 1, live: bool | None = None, say: Callable[[str], None] = print) -> "Source":
    """Opens a video file, a folder of images, ``camera`` or ``camera:N``, or an address such as ``rtsp://…``.

    Args:
        name: of the source.
        threads: of the decoder.
        live: whether frames that are not taken in time are lost; None guesses by the name.
        say: takes what the user has to know at once.

    Raises:
        DataError: it is not there, or no video that can be decoded.
    """
    path = local_path(name)
    if path is not None and path.is_dir():
        return Folder(path)
    if path is not None and not path.exists():
        msg = f"--source {name} is neither a file nor a folder, nor `camera`, nor an address such as rtsp://…"
        raise DataError(msg)
    return Video(Opening(name, is_live(name) if live is None else live), threads, say)


class _Arrival(NamedTuple):
    """When a packet came, and for how long it was waited for."""

    time: float
    waited: float


class Video:
    """A file, camera or stream that FFmpeg decodes.

    A packet that can't be decoded is counted and passed over, and so is a frame that the decoder marks as damaged
    (it is still shown: most of it is there). A live source that ends or stands still is waited for and opened again for
    :data:`opening.PATIENCE` seconds.

    Args:
        source: what to open.
        threads: threads of the decoder.
        say: takes what the user has to know at once.

    Attributes:
        live: whether frames that are not taken in time are lost.
        rate: frames per second.
        broken: frames so far that could not be decoded, or only in part.
    """

    _stream: Any
    _shown: int
    _arrival: _Arrival
    _clock: CaptureClock

    def __init__(self, source: Opening, threads: int, say: Callable[[str], None] = print) -> None:
        self.live, self.broken = source.live, 0
        self._source, self._threads, self._say = source, threads, say
        self._still: list[float] = []
        self._reopened, self._ended, self._closed = 0, "", False
        self._container: Any = None
        self._take(source.open())
        # The average counts the jumps of joined recordings; FFmpeg's guess does not.
        self.rate = Fraction(self._stream.guessed_rate or self._stream.average_rate or FOLDER_RATE)
        # What a live source's stamps say of a pause is true.
        self._timeline = Timeline(1 / self.rate, opening.PATIENCE + 10 if self.live else 10)
        self._converter, self._deinterlacer = Converter(), Deinterlacer()

    @property
    def notes(self) -> list[str]:
        """What the user has to know of the source beside the counts, after the last frame."""
        notes = sorted(self._converter.notes)
        if self._deinterlacer.used:
            notes.append("interlaced: deinterlaced by FFmpeg's bwdif")
        if self._timeline.jumps and not self.live:
            notes.append(f"its time stamps jump ({self._timeline.jumps}×): joined without a gap")
        if self._still:
            notes.append(f"the source stood still for {join_names([f'{seconds:.1f} s' for seconds in self._still])}")
        if self._reopened:
            notes.append(f"it was lost and opened again ({self._reopened}×)")
        return notes + ([self._ended] if self._ended else [])

    def __iter__(self) -> Iterator[Frame]:
        """Yields frames to the end of what can be decoded."""
        last = time.monotonic()
        for frame in self._deinterlace():
            self.broken += bool(frame.is_corrupt)
            now = time.monotonic()
            stamp = None if frame.pts is None else frame.pts * (frame.time_base or self._stream.time_base)
            pixels, colours = self._converter.convert(frame, self._stream)
            if self.live:
                taken = self._clock.taken(None if stamp is None else float(stamp), now)
                yield Frame(pixels, self._timeline.place(stamp, Fraction(now - last)), taken, colours)
            else:
                yield Frame(pixels, self._timeline.place(stamp), None, colours)
            last = now

    def _deinterlace(self) -> Iterator[Any]:
        for frame in self._decode():
            self._shown += 1
            yield from self._deinterlacer.push(frame)
        yield from self._deinterlacer.flush()

    def _decode(self) -> Iterator[Any]:
        while True:
            for packet in self._read_packets():
                if self.live and not self._shown:
                    # Who joins a broadcast waits for the first frame that stands alone.
                    self._announced = self._failed = 0
                self._announced += packet.size > 0 and not packet.is_discard
                yield from self._decode_packet(packet)
            # Where reading ends by an error, as when a sender hangs up, the decoder still holds frames.
            with contextlib.suppress(need("av").error.FFmpegError):
                yield from self._stream.codec_context.decode(None)
            # Some decoders skip what they can't read without a word, and a file that was cut short holds less than its
            # index says.
            lost = max(self._announced, self._stream.frames) - self._shown
            self.broken += max(lost, self._failed)
            if not self._reconnect():
                return

    def _decode_packet(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except need("av").error.FFmpegError:
            self._failed += 1
            return []

    def _read_packets(self) -> Iterator[Any]:
        """Yields packets to the end of what can be read; an error, as when a sender hangs up, is an end as well."""
        packets = iter(self._container.demux(self._stream))
        while True:
            before = time.monotonic()
            try:
                packet = next(packets)
            except StopIteration:
                return
            except need("av").error.FFmpegError as error:
                self._ended = "" if self.live else f"reading ended early: {error.strerror}"
                return
            waited = time.monotonic() - before
            # What FFmpeg hands over when it has waited in vain was held back, and has not arrived.
            in_vain = self.live and waited > 0.99 * self._source.read_seconds
            if self.live and packet.size and not in_vain:
                self._note_arrival(packet, waited)
            yield packet
            if in_vain:
                return

    def _note_arrival(self, packet: Any, waited: float) -> None:
        last, self._arrival = self._arrival, _Arrival(time.monotonic(), waited)
        if waited > _STOOD_STILL:
            self._still.append(waited)
        stamp = None if packet.pts is None else float(packet.pts * packet.time_base)
        # A packet of MPEG-TS is known to be whole when the next one begins, and handed on only then.
        self._clock.hear(stamp, *(last if self._container.format.name == "mpegts" else self._arrival))

    def _reconnect(self) -> bool:
        """Opens a live source again that has ended; a recording has a size, and ends where it ends."""
        if not self.live or self._closed or local_path(self._source.name) or (self._container.size or 0) > 0:
            return False
        self._say(f"{self._source.shown} stands still: waiting {opening.PATIENCE:g} s for it (Ctrl-C ends)")
        self._container.close()
        ended = self._arrival.time
        container = self._source.open_again(ended + opening.PATIENCE, lambda: self._closed)
        if container is None:
            self._ended = f"the source has ended: nothing came for {opening.PATIENCE:g} s"
            return False
        self._still.append(time.monotonic() - ended)
        self._reopened += 1
        self._take(container)
        return True

    def _take(self, container: Any) -> None:
        self._container, self._arrival = container, _Arrival(time.monotonic(), 0.0)
        try:
            self._stream = choose_stream(container, self._source.shown)
        except DataError:
            container.close()
            raise
        decoder = self._stream.codec_context
        decoder.thread_count = self._threads
        self._announced, self._failed, self._shown = 0, 0, 0
        self._clock = CaptureClock(self._source.offset)
        if self.live:
            # A decoder with a thread for each frame holds back as many frames.
            decoder.thread_type = "SLICE"
            decoder.flags |= need("av").codec.context.Flags.low_delay

    def close(self) -> None:
        """Closes the input."""
        self._closed = True
        self._container.close()


class Folder:
    """The images of a folder in natural order; the attributes are those of :class:`Video`.

    Raises:
        DataError: there is no image in it.
    """

    def __init__(self, path: Path) -> None:
        self.rate, self.live, self.broken = FOLDER_RATE, False, 0
        self._files = list_images(path)
        self.notes: list[str] = []
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
