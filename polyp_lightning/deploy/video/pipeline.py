"""The way of a frame through ``stream``: decode, resize, network, threshold, draw, save; read it from the top.

Decoding and resizing, the network, and drawing and encoding run in three threads that hand frames on through short
queues: throughput is that of the slowest, not of the sum. FFmpeg, OpenCV and the runtimes all let go of Python's lock
while they work.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from polyp_lightning.data.cache import resize
from polyp_lightning.deploy.bundle import Bundle
from polyp_lightning.deploy.runners.arrays import Frames, Runner
from polyp_lightning.deploy.video.alarm import Alarms
from polyp_lightning.deploy.video.channel import Channel
from polyp_lightning.deploy.video.cores import divide_cores, stay_on_cores
from polyp_lightning.deploy.video.decoding import Frame, Source
from polyp_lightning.deploy.video.overlay import Finding, draw_finding, find_polyp, resize_to_mask
from polyp_lightning.deploy.video.results import Recorder, drop_specks
from polyp_lightning.deploy.video.saving import VideoWriter

_WAITING = 4
_WINDOW = 120
"""Frames over which the readout's FPS and p99 are taken."""


@dataclass(frozen=True)
class StreamOptions:
    """The options of the verb ``stream``, whose help explains them."""

    model: Path
    source: str
    output: Path | None = None
    show: bool = False
    backend: str | None = None
    threads: int = 1
    smooth: float = 0.0
    overwrite: bool = False
    live: bool | None = None
    alarm_frames: int = 5
    alarm_window: int = 8
    threshold: float | None = None
    results: Path | None = None
    masks: Path | None = None
    min_area: int = 0


@dataclass
class StreamReport:
    """What a stream did.

    Attributes:
        dropped: frames of a live source that were passed over to keep up.
        polyps: frames that show a polyp, see :mod:`polyp_lightning.common.frame_rule`.
        alarms: those that last; a contour is drawn only while there is one.
        broken: frames that could not be decoded, or only in part.
        seconds: from the first frame's decoding to the last one's drawing.
        network: the network's time for each frame, in milliseconds.
        ages: of a live source, each frame's age in milliseconds when it was drawn, counted from its capture; see
            :class:`~polyp_lightning.deploy.video.times.CaptureClock`.
        notes: what else is worth knowing of the source.
        encoder: the saved video's encoder, else empty.
    """

    alarms: Alarms
    frames: int = 0
    polyps: int = 0
    dropped: int = 0
    broken: int = 0
    seconds: float = 0.0
    network: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    encoder: str = ""

    @property
    def fps(self) -> float:
        """Frames per second, end to end."""
        return self.frames / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        """In one line for people, and one for each note."""
        p50, p99 = np.percentile(self.network, [50, 99])
        line = (
            f"{self.frames} frames in {self.seconds:.1f} s: {self.fps:.1f} FPS end to end; "
            f"network p50 {p50:.1f} ms, p99 {p99:.1f} ms; {self.polyps} with a polyp, "
            f"{self.alarms}; {self.dropped} dropped, {self.broken} broken"
        )
        if self.ages:
            p50, p99 = np.percentile(self.ages, [50, 99])
            line += f"; age from capture to drawn p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        return "\n".join([line, *self.notes])


@dataclass(frozen=True)
class Pipeline:
    """Runs a model over a source, and shows or saves the result."""

    source: Source
    runner: Runner
    bundle: Bundle
    options: StreamOptions
    writer: VideoWriter | None
    recorder: Recorder

    def run(self, report: StreamReport) -> None:
        """Runs until the source ends or the user has seen enough; what happened is added to the report."""
        # A live source never waits: each part takes the newest frame, and older ones are dropped.
        live = self.source.live
        waiting = 1 if live else _WAITING
        frames: Channel[tuple[Frame, Frames]] = Channel(waiting, drop=live)
        results: Channel[_Segmented] = Channel(waiting, drop=live)
        own, others = divide_cores(self.options.threads)
        start = time.perf_counter()
        workers = [
            _start_thread(lambda: self._read(frames), frames, others),
            _start_thread(lambda: self._segment(frames, results), results, own),
        ]
        try:
            # Drawing, saving and showing are in the caller's thread, which windows need.
            with stay_on_cores(others):
                self._present(results, report)
        finally:
            frames.close()
            results.close()
            for worker in workers:
                # A reader may hang in a stream that stands still; as a daemon it does not keep the process.
                worker.join(timeout=2.0)
            report.seconds = time.perf_counter() - start
            report.dropped, report.broken = frames.dropped + results.dropped, self.source.broken
            report.notes = list(self.source.notes)

    def _read(self, frames: "Channel[tuple[Frame, Frames]]") -> None:
        """Decodes and resizes; closes the source, which no other thread may do while this one reads."""
        try:
            for frame in self.source:
                if not frames.put((frame, resize(frame.pixels, self.bundle.image_size)[None])):
                    return
        finally:
            self.source.close()

    def _segment(self, frames: "Channel[tuple[Frame, Frames]]", results: "Channel[_Segmented]") -> None:
        """Runs the network."""
        past: NDArray[np.float32] | None = None
        for frame, resized in frames:
            start = time.perf_counter()
            probability = self.runner(resized)[0, 0]
            milliseconds = 1e3 * (time.perf_counter() - start)
            if self.options.smooth:
                past = probability if past is None else average(past, probability, self.options.smooth)
                probability = past
            if not results.put(_Segmented(frame, probability, milliseconds)):
                frames.close()
                return

    def _present(self, results: "Channel[_Segmented]", report: StreamReport) -> None:
        """Decides, draws, saves and shows."""
        pace: deque[float] = deque(maxlen=_WINDOW)
        for result in results:
            pace.append(time.perf_counter())
            report.network.append(result.milliseconds)
            finding, mask = self._decide(result)
            report.frames += 1
            report.polyps += finding.polyp
            alarm = report.alarms.update(finding.polyp, result.frame.time)
            height, width = result.frame.pixels.shape[:2]
            self.recorder.add(result.frame.time, finding, mask, (height, width))
            if self.writer is None and not self.options.show:
                _note_age(result.frame, report)
                continue
            pixels = result.frame.pixels
            # A contour is drawn while an alarm lasts.
            draw_finding(pixels, mask if alarm else None, format_readout(finding, pace, report))
            goes_on = not self.options.show or _show(pixels)
            _note_age(result.frame, report)
            if self.writer is not None:
                self.writer.write(pixels, result.frame.time, result.frame.colours)
            if not goes_on:
                return

    def _decide(self, result: "_Segmented") -> tuple[Finding, NDArray[np.uint8] | None]:
        """Decides whether there is a polyp, and where; no mask where there is none, or where nobody looks at it."""
        finding, least = find_polyp(result.probability, self.bundle.alarm_threshold), self.options.min_area
        watched = self.writer is not None or self.options.show or self.recorder.needs_masks
        if not finding.polyp or not (watched or least):
            return finding, None
        # A frame with a polyp always has a mask, even where the alarm threshold is the lower one.
        threshold = min(self.bundle.threshold, self.bundle.alarm_threshold)
        height, width = result.frame.pixels.shape[:2]
        mask = drop_specks(resize_to_mask(result.probability, threshold, height, width), least)
        if least and not mask.any():
            return Finding(False, 1 - finding.confidence), None
        return finding, mask


@dataclass(frozen=True)
class _Segmented:
    frame: Frame
    probability: NDArray[np.float32]
    milliseconds: float


def _note_age(frame: Frame, report: StreamReport) -> None:
    if frame.taken is not None:
        report.ages.append(1e3 * (time.monotonic() - frame.taken))


def average(past: NDArray[np.float32], now: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Returns the exponential average: ``weight`` of the past and the rest of now."""
    return np.asarray(cv2.addWeighted(past, weight, now, 1 - weight, 0), np.float32)


def format_readout(finding: Finding, pace: deque[float], report: StreamReport) -> list[str]:
    """Returns the lines drawn into a frame: FPS, the network's p99 and live frames' ages of late; finding; alarm."""
    network, ages, alarm = report.network[-_WINDOW:], report.ages[-_WINDOW:], report.alarms.lasting
    fps = (len(pace) - 1) / (pace[-1] - pace[0]) if len(pace) > 1 else 0.0
    age = ", age p50 {:.0f} p99 {:.0f} ms".format(*np.percentile(ages, [50, 99])) if ages else ""
    return [
        f"{fps:.0f} fps, p99 {np.percentile(network, 99):.0f} ms{age}",
        f"{'polyp' if finding.polyp else 'no polyp'} {finding.confidence:.2f}",
        f"{'ALARM' if alarm.on else 'alarm'} {alarm}",
    ]


def _show(pixels: NDArray[np.uint8]) -> bool:
    """Shows a frame; returns False where the user wants to end."""
    cv2.imshow("polyp_lightning", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return cv2.waitKey(1) not in (ord("q"), 27)


def _start_thread(work: Callable[[], None], output: Channel[Any], cores: set[int] | None) -> Thread:
    """Starts a thread on some cores that closes its output at its end, with the error that ended it."""

    def run() -> None:
        try:
            with stay_on_cores(cores):
                work()
        except BaseException as error:
            output.close(error)
        else:
            output.close()

    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread
