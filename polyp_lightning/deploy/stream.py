"""``stream``: segments a video as it comes.

Decoding and resizing, the network, and drawing and encoding run in three threads that hand frames on through short
queues, so that throughput is that of the slowest and not of the sum. FFmpeg, OpenCV and the runtimes all let go of
Python's lock while they work.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.cache import resize
from polyp_lightning.deploy.bundle import Bundle, read_bundle
from polyp_lightning.deploy.channel import Channel
from polyp_lightning.deploy.cores import divided, on_cores
from polyp_lightning.deploy.overlay import Finding, draw, find, mask_at
from polyp_lightning.deploy.runtime import BACKENDS, Runner, load
from polyp_lightning.deploy.saving import VideoWriter
from polyp_lightning.deploy.video import Shot, Source, open_source

_WAITING = 4
_WINDOW = 120
"""Frames over which the readout's FPS and p99 are taken."""


@dataclass(frozen=True)
class StreamOptions:
    """What to watch and how.

    Attributes:
        model: an exported model.
        source: see :func:`~polyp_lightning.deploy.video.open_source`.
        save: a video to write; None for none.
        show: show a window; ``q`` or Escape ends.
        backend: one of the model's backends; None for its usual one.
        threads: threads of the network.
        smooth: weight of the past in the probabilities, in [0, 1): 0 takes every frame by itself.
        overwrite: replace an older ``save``.
    """

    model: Path
    source: str
    save: Path | None = None
    show: bool = False
    backend: str | None = None
    threads: int = 1
    smooth: float = 0.0
    overwrite: bool = False


@dataclass
class StreamReport:
    """What a stream did.

    Attributes:
        frames: frames segmented.
        polyps: those with a polyp.
        dropped: frames of a live source that were passed over to keep up.
        broken: frames that could not be decoded, or only in part.
        seconds: from the first frame's decoding to the last one's drawing.
        network: the network's time for each frame, in milliseconds.
        encoder: the saved video's encoder, else empty.
    """

    frames: int = 0
    polyps: int = 0
    dropped: int = 0
    broken: int = 0
    seconds: float = 0.0
    network: list[float] = field(default_factory=list)
    encoder: str = ""

    @property
    def fps(self) -> float:
        """Frames per second, end to end."""
        return self.frames / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        """In one line for people."""
        p50, p99 = np.percentile(self.network, [50, 99])
        return (
            f"{self.frames} frames in {self.seconds:.1f} s: {self.fps:.1f} FPS end to end; "
            f"network p50 {p50:.1f} ms, p99 {p99:.1f} ms; {self.polyps} with a polyp; "
            f"{self.dropped} dropped, {self.broken} broken"
        )


@dataclass(frozen=True)
class _Segmented:
    shot: Shot
    probability: NDArray[np.float32]
    milliseconds: float


def stream(options: StreamOptions, say: Callable[[str], None] = print) -> StreamReport:
    """Runs a model over a source until it ends, or ``q`` is pressed in the window, or the process is interrupted.

    Args:
        options: what to watch.
        say: takes the lines of the report.

    Raises:
        ConfigError: the model can't be run, or the video or window can't be opened.
        DataError: the source can't be opened, or no frame of it could be decoded.
    """
    if not 0 <= options.smooth < 1:
        msg = f"--smooth {options.smooth} is the weight of the past, in [0, 1)"
        raise ConfigError(msg)
    if options.show:
        check_window()
    bundle = read_bundle(options.model)
    runner = load(bundle, options.backend or BACKENDS[bundle.format][0], options.threads)
    # The first call plans memory and compiles kernels.
    runner(np.zeros((1, bundle.image_size, bundle.image_size, 3), np.uint8))
    cv2.setNumThreads(1)
    source = open_source(options.source)
    report = StreamReport()
    with _writer(options, source) as writer:
        _tell_of_leftovers(writer, say)
        try:
            _watch(source, runner, bundle, options, writer, report)
        except KeyboardInterrupt:
            say("interrupted: what was segmented so far is kept")
    if not report.frames:
        msg = f"no frame of --source {options.source} could be decoded ({report.broken} broken)"
        raise DataError(msg)
    say(str(report))
    if writer is not None:
        report.encoder = writer.encoder
        say(f"saved {options.save} ({writer.encoder}, {float(source.rate):g} frames per second)")
    return report


def _writer(options: StreamOptions, source: Source) -> AbstractContextManager[VideoWriter | None]:
    try:
        return VideoWriter(options.save, source.rate, options.overwrite) if options.save else nullcontext()
    except ConfigError:
        source.close()
        raise


def _tell_of_leftovers(writer: VideoWriter | None, say: Callable[[str], None]) -> None:
    for path in writer.leftovers() if writer is not None else []:
        fate = "it plays to where it ends" if path.exists() else "nothing could play it, and it is removed"
        say(f"{path} is of an earlier stream that was killed: {fate}")


def check_window() -> None:
    """Refuses to show where OpenCV can't open a window.

    Raises:
        ConfigError: with the command that installs one that can.
    """
    gui = [line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
    if gui and gui[0].split(":")[1].strip() != "NONE":
        return
    msg = (
        "--show needs an OpenCV with windows, and this one is headless: "
        "pip uninstall opencv-python-headless && pip install opencv-python. Without --show, use --save FILE.mp4"
    )
    raise ConfigError(msg)


def _watch(
    source: Source, runner: Runner, bundle: Bundle, options: StreamOptions, writer: VideoWriter | None,
    report: StreamReport,
) -> None:  # fmt: skip
    """The three threads; drawing, saving and showing are in the caller's, which windows need."""
    # A live source never waits: the network takes the newest frame, and older ones are dropped.
    frames: Channel[tuple[Shot, NDArray[np.uint8]]] = Channel(1 if source.live else _WAITING, drop=source.live)
    results: Channel[_Segmented] = Channel(_WAITING)
    own, others = divided(options.threads)
    start = time.perf_counter()
    workers = [
        _started(lambda: _read(source, bundle.image_size, frames), frames, others),
        _started(lambda: _segment(frames, runner, options.smooth, results), results, own),
    ]
    try:
        with on_cores(others):
            _present(results, bundle.threshold, options.show, writer, report)
    finally:
        frames.close()
        results.close()
        for worker in workers:
            # A reader may hang in a stream that stands still; as a daemon it does not keep the process.
            worker.join(timeout=2.0)
        report.seconds = time.perf_counter() - start
        report.dropped, report.broken = frames.dropped, source.broken


def _started(work: Callable[[], None], output: Channel[Any], cores: set[int] | None) -> Thread:
    """A thread on some cores that closes its output at its end, with the error that ended it."""

    def run() -> None:
        try:
            with on_cores(cores):
                work()
        except BaseException as error:
            output.close(error)
        else:
            output.close()

    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread


def _read(source: Source, size: int, frames: Channel[tuple[Shot, NDArray[np.uint8]]]) -> None:
    """Decodes and resizes; closes the source, which no other thread may do while this one reads."""
    try:
        for shot in source:
            if not frames.put((shot, resize(shot.pixels, size))):
                return
    finally:
        source.close()


def _segment(
    frames: Channel[tuple[Shot, NDArray[np.uint8]]], runner: Runner, smooth: float, results: Channel[_Segmented]
) -> None:
    past: NDArray[np.float32] | None = None
    for shot, frame in frames:
        start = time.perf_counter()
        probability = runner(frame[None])[0, 0]
        milliseconds = 1e3 * (time.perf_counter() - start)
        if smooth:
            past = probability if past is None else smoothed(past, probability, smooth)
            probability = past
        if not results.put(_Segmented(shot, probability, milliseconds)):
            frames.close()
            return


def smoothed(past: NDArray[np.float32], now: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """An exponential average: ``weight`` of the past and the rest of now."""
    return np.asarray(cv2.addWeighted(past, weight, now, 1 - weight, 0), np.float32)


def _present(
    results: Channel[_Segmented], threshold: float, show: bool, writer: VideoWriter | None, report: StreamReport
) -> None:
    pace: deque[float] = deque(maxlen=_WINDOW)
    for result in results:
        pace.append(time.perf_counter())
        report.network.append(result.milliseconds)
        finding = find(result.probability, threshold)
        report.frames += 1
        report.polyps += finding.polyp
        if writer is None and not show:
            continue
        picture = result.shot.pixels
        # No contour where the readout says that there is no polyp: specks don't count.
        height, width = picture.shape[:2]
        mask = mask_at(result.probability, threshold, height, width) if finding.polyp else None
        draw(picture, mask, readout(finding, pace, report.network[-_WINDOW:]))
        if writer is not None:
            writer.write(picture, result.shot.time)
        if show and not _shown(picture):
            return


def readout(finding: Finding, pace: deque[float], network: list[float]) -> list[str]:
    """The lines drawn into a frame: frames per second and the network's p99 over the last frames, and the finding."""
    fps = (len(pace) - 1) / (pace[-1] - pace[0]) if len(pace) > 1 else 0.0
    return [
        f"{fps:.0f} fps, p99 {np.percentile(network, 99):.0f} ms",
        f"{'polyp' if finding.polyp else 'no polyp'} {finding.confidence:.2f}",
    ]


def _shown(picture: NDArray[np.uint8]) -> bool:
    """Shows a frame; False where the user wants to end."""
    cv2.imshow("polyp_lightning", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return cv2.waitKey(1) not in (ord("q"), 27)
