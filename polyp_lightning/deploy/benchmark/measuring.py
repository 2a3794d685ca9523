"""``benchmark``: how long a frame takes, from the decoder to the mask, in every backend asked for.

All models and backends take turns in one run: what the machine does meanwhile meets them all alike, and a ratio is
formed within each round. Fewer multiply-accumulates are never called faster: only measured time is.
"""

import itertools
import random
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.common.machine import busy, load
from polyp_lightning.data.cache import resize
from polyp_lightning.data.sets.phantom import draw_frame
from polyp_lightning.deploy.benchmark.candidates import Candidate, list_candidates, load_candidate
from polyp_lightning.deploy.benchmark.peak_memory import measure_peak
from polyp_lightning.deploy.first_use import export_once
from polyp_lightning.deploy.runners.arrays import Runner
from polyp_lightning.deploy.signature import THRESHOLD
from polyp_lightning.deploy.video.decoding import open_source
from polyp_lightning.deploy.video.overlay import resize_to_mask
from polyp_lightning.deploy.video.saving import VideoWriter

_Shown = tuple[NDArray[np.uint8], bool]
"""A frame, and whether its video has just been opened for it."""

STAGES = ("decode", "preprocess", "network", "postprocess")


@dataclass
class Timing:
    """The times of one candidate, in milliseconds.

    ``stages`` hold one time a frame (``total``: their sum), ``rounds`` the network's median in each round.
    ``memory_mb``: peak memory of a process that does nothing else, in 10⁶ bytes; None where it was not measured.
    ``load``: of the machine before the start, by other work.
    """

    candidate: Candidate
    stages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in (*STAGES, "total")})
    rounds: list[float] = field(default_factory=list)
    memory_mb: float | None = None
    load: float = 0.0

    def percentile(self, stage: str, percent: float) -> float:
        """A percentile of a stage's times."""
        return float(np.percentile(self.stages[stage], percent))

    def fps(self, stage: str) -> float:
        """Frames per second at the mean time of a stage."""
        return 1e3 / float(np.mean(self.stages[stage]))


@dataclass(frozen=True)
class BenchmarkOptions:
    """The options of the verb ``benchmark``, whose help explains them; ratios are to the first model."""

    models: Sequence[Path]
    image_size: int | None = None
    threads: int = 1
    backends: Sequence[str] | None = None
    source: str | None = None
    rounds: int = 10
    frames: int = 20
    memory: bool = True
    named: Sequence[str] = ()


def benchmark(options: BenchmarkOptions, say: Callable[[str], None] = print) -> list[Timing]:
    """Measures every model in every backend, in the order of the models.

    Raises:
        ConfigError: a model or backend can't be run, or a size does not fit.
        DataError: the source can't be decoded.
    """
    if options.threads < 1 or options.rounds < 1 or options.frames < 1:
        msg = "--threads, --rounds and --frames must be at least 1"
        raise ConfigError(msg)
    models = [export_once(model, options.backends or (), say) for model in options.models]
    before = load()
    if warning := busy(before):
        say(warning)
    cv2.setNumThreads(options.threads)
    timings, runners = [], []
    for candidate in list_candidates(models, options.image_size, options.backends, options.named):
        say(f"loading {candidate.model.name} in {candidate.backend}")
        runners.append(load_candidate(candidate, options.threads))
        timings.append(Timing(candidate, load=before))
    with tempfile.TemporaryDirectory() as folder:
        source = options.source or str(write_phantoms(Path(folder) / "phantoms.mp4"))
        _measure(list(zip(timings, runners, strict=True)), source, options)
    if options.memory:
        for timing in timings:
            timing.memory_mb = measure_peak(timing.candidate, options.threads)
    return timings


def write_phantoms(path: Path) -> Path:
    """Writes a short H.264 video of drawn phantoms, 384×288."""
    with VideoWriter(path, Fraction(25)) as writer:
        for index in range(25):
            writer.write(draw_frame(0, index)[0], Fraction(index, 25))
    return path


def _measure(entries: list[tuple[Timing, Runner]], source: str, options: BenchmarkOptions) -> None:
    """Runs the rounds, in which every candidate has a turn, in another order each time."""
    # The same order in every run, and none that would favour a place.
    order = random.Random(0)  # noqa: S311
    with closing(_repeat_video(source, options.threads)) as video:
        for _ in range(options.rounds):
            for timing, runner in order.sample(entries, len(entries)):
                times = _take_turn(timing, runner, video, options.frames)
                timing.rounds.append(float(np.median(times)))


def _take_turn(timing: Timing, runner: Runner, video: Iterator[_Shown], frames: int) -> list[float]:
    """Measures one candidate for some frames and returns the network's times.

    Its first frame, which finds another's data in the caches, and frames before which the video was opened again are
    not counted.
    """
    size = timing.candidate.image_size
    network: list[float] = []
    settled = False
    while len(network) < frames:
        moments = [time.perf_counter()]
        pixels, opened = next(video)
        moments.append(time.perf_counter())
        frame = resize(pixels, size)[None]
        moments.append(time.perf_counter())
        probability = runner(frame)[0, 0]
        moments.append(time.perf_counter())
        resize_to_mask(probability, THRESHOLD, pixels.shape[0], pixels.shape[1])
        moments.append(time.perf_counter())
        if settled and not opened:
            spent = [1e3 * (b - a) for a, b in itertools.pairwise(moments)]
            network.append(spent[2])
            for stage, value in zip((*STAGES, "total"), (*spent, 1e3 * (moments[-1] - moments[0])), strict=True):
                timing.stages[stage].append(value)
        settled = True
    return network


def _repeat_video(name: str, threads: int) -> Generator[_Shown]:
    """Yields a video's frames, RGB uint8 (H, W, 3), again and again."""
    while True:
        source, opened = open_source(name, threads), True
        try:
            for frame in source:
                yield frame.pixels, opened
                opened = False
        finally:
            source.close()
        if opened:
            msg = f"no frame of --source {name} could be decoded ({source.broken} broken)"
            raise DataError(msg)


def compare_rounds(timing: Timing, reference: Timing) -> tuple[float, float, float]:
    """Returns how many times faster than a reference the network is: median over the rounds, and the middle 80 %.

    Each round's ratio is of two medians measured one after the other.
    """
    ratios = np.array(reference.rounds) / np.array(timing.rounds)
    low, middle, high = np.percentile(ratios, [10, 50, 90])
    return float(middle), float(low), float(high)


def find_late(timings: Sequence[Timing], budget_ms: float) -> list[Timing]:
    """Returns those whose 99th percentile from decoder to mask exceeds a frame budget."""
    return [timing for timing in timings if timing.percentile("total", 99) > budget_ms]
