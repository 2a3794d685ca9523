"""``benchmark``: how long a frame takes, from the decoder to the mask, in every backend asked for.

All models and backends take turns in one run, so that what the machine does meanwhile meets them all alike, and a
ratio is formed within each round. Fewer multiply-accumulates are never called faster: only the clock is.
"""

import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.common.machine import busy
from polyp_lightning.data.cache import resize
from polyp_lightning.data.sets.phantom import draw_frame
from polyp_lightning.deploy.bundle import THRESHOLD, read_bundle
from polyp_lightning.deploy.overlay import mask_at
from polyp_lightning.deploy.peak import peak_memory
from polyp_lightning.deploy.runtime import BACKENDS, Runner, check_backend, load
from polyp_lightning.deploy.saving import VideoWriter
from polyp_lightning.deploy.video import Source, open_source

STAGES = ("decode", "preprocess", "network", "postprocess")
WARM_UP = 5


@dataclass(frozen=True)
class Candidate:
    """A model with a backend.

    Attributes:
        model: its file: an exported model or a checkpoint.
        backend: where it runs.
        image_size: side in pixels of its frames.
        gmacs: 10⁹ multiply-accumulates for a frame.
        params: parameters that it uses.
        precision: of the file: float32 or int8.
        dice: its test Dice, where it was scored.
    """

    model: Path
    backend: str
    image_size: int
    gmacs: float
    params: int
    precision: str
    dice: float | None


@dataclass
class Timing:
    """The times of one candidate, in milliseconds.

    Attributes:
        candidate: what was timed.
        stages: stage → one time a frame; ``total`` is the sum.
        rounds: median time of the network in each round.
        memory_mb: peak memory of a process that does nothing else, in 10⁶ bytes; None where it was not measured.
    """

    candidate: Candidate
    stages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in (*STAGES, "total")})
    rounds: list[float] = field(default_factory=list)
    memory_mb: float | None = None

    def percentile(self, stage: str, percent: float) -> float:
        """A percentile of a stage's times."""
        return float(np.percentile(self.stages[stage], percent))

    def fps(self, stage: str) -> float:
        """Frames per second at the mean time of a stage."""
        return 1e3 / float(np.mean(self.stages[stage]))


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure and how.

    Attributes:
        models: exported models or checkpoints; ratios are to the first.
        image_size: side in pixels; None for each model's own.
        threads: threads of the network and the decoder.
        backends: backends; None for all that a model has here.
        source: the video whose frames are decoded; None for drawn phantoms as H.264.
        rounds: how often all candidates take turns.
        frames: frames a turn.
        memory: measure peak memory too, each candidate in a process of its own.
    """

    models: Sequence[Path]
    image_size: int | None = None
    threads: int = 1
    backends: Sequence[str] | None = None
    source: str | None = None
    rounds: int = 10
    frames: int = 20
    memory: bool = True


def benchmark(options: BenchmarkOptions, say: Callable[[str], None] = print) -> list[Timing]:
    """Measures every model in every backend.

    Returns:
        One entry for each, in the order of the models.

    Raises:
        ConfigError: a model or backend can't be run, or a size does not fit.
        DataError: the source can't be decoded.
    """
    if options.threads < 1 or options.rounds < 1 or options.frames < 1:
        msg = "--threads, --rounds and --frames must be at least 1"
        raise ConfigError(msg)
    if warning := busy():
        say(warning)
    cv2.setNumThreads(options.threads)
    timings, runners = [], []
    for candidate in candidates(options):
        say(f"loading {candidate.model.name} in {candidate.backend}")
        runners.append(load_candidate(candidate, options.threads))
        timings.append(Timing(candidate))
    with tempfile.TemporaryDirectory() as folder:
        source = options.source or str(phantom_video(Path(folder) / "phantoms.mp4"))
        _measure(list(zip(timings, runners, strict=True)), source, options)
    if options.memory:
        for timing in timings:
            timing.memory_mb = peak_memory(timing.candidate, options.threads)
    return timings


def candidates(options: BenchmarkOptions) -> list[Candidate]:
    """Every model with every backend that it is to run in."""
    return [candidate for model in options.models for candidate in _of_model(model, options)]


def _of_model(model: Path, options: BenchmarkOptions) -> Iterator[Candidate]:
    dice_in: Callable[[str], float | None]
    if model.suffix == ".ckpt":
        kind, size, facts = "checkpoint", *_checkpoint_facts(model, options.image_size)
        dice_in = _unknown
    else:
        bundle = read_bundle(model)
        kind, size = bundle.format, bundle.image_size
        facts = (float(bundle.facts["gmacs"]), bundle.facts["params"], bundle.facts["precision"])
        dice_in = bundle.test_dice_in
        if options.image_size not in (None, size):
            msg = (
                f"--image_size {options.image_size}, but {model} was exported for {size}²: "
                f"export it again with --image_size {options.image_size}"
            )
            raise ConfigError(msg)
    chosen = BACKENDS[kind] if options.backends is None else options.backends
    for backend in chosen:
        check_backend(kind, backend, model)
        if options.backends is not None or not backend.startswith("cuda") or _has_cuda():
            yield Candidate(model, backend, size, *facts, dice_in(backend))


def _unknown(_: str) -> float | None:
    return None


def _checkpoint_facts(model: Path, image_size: int | None) -> tuple[int, tuple[float, int, str]]:
    from polyp_lightning.checkpoints.trained import load_net
    from polyp_lightning.deploy.graph import check_size
    from polyp_lightning.networks.complexity import measure

    trained = load_net(model)
    size = image_size or trained.image_size
    check_size(size)
    cost = measure(trained.net, size)
    return size, (cost.gmacs, cost.params_used, "float32")


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def load_candidate(candidate: Candidate, threads: int) -> Runner:
    """Loads a candidate's network and runs it until it has settled."""
    if candidate.model.suffix == ".ckpt":
        from polyp_lightning.deploy.runtime_torch import load_checkpoint

        runner: Runner = load_checkpoint(candidate.model, candidate.backend, threads)
    else:
        runner = load(read_bundle(candidate.model), candidate.backend, threads)
    frame = np.zeros((1, candidate.image_size, candidate.image_size, 3), np.uint8)
    for _ in range(WARM_UP):
        runner(frame)
    return runner


def phantom_video(path: Path, frames: int = 25) -> Path:
    """A short H.264 video of drawn phantoms, 384×288."""
    with VideoWriter(path, Fraction(25)) as writer:
        for index in range(frames):
            writer.write(draw_frame(0, index)[0], Fraction(index, 25))
    return path


def _measure(entries: list[tuple[Timing, Runner]], source: str, options: BenchmarkOptions) -> None:
    """Rounds in which every candidate has a turn, in another order each time."""
    # The same order in every run, and none that would favour a place.
    order = random.Random(0)  # noqa: S311
    shots = _Shots(source, options.threads)
    try:
        for _ in range(options.rounds):
            for timing, runner in order.sample(entries, len(entries)):
                times = _turn(timing, runner, shots, options.frames)
                timing.rounds.append(float(np.median(times)))
    finally:
        shots.close()


def _turn(timing: Timing, runner: Runner, shots: "_Shots", frames: int) -> list[float]:
    """A turn of one candidate.

    Its first frame, which finds another's data in the caches, and frames before which the video was opened again are
    not counted.
    """
    size = timing.candidate.image_size
    network: list[float] = []
    settled = False
    while len(network) < frames:
        opened = shots.opened
        clock = [time.perf_counter()]
        pixels = shots.next()
        clock.append(time.perf_counter())
        frame = resize(pixels, size)[None]
        clock.append(time.perf_counter())
        probability = runner(frame)[0, 0]
        clock.append(time.perf_counter())
        mask_at(probability, THRESHOLD, pixels.shape[0], pixels.shape[1])
        clock.append(time.perf_counter())
        if settled and shots.opened == opened:
            spent = [1e3 * (b - a) for a, b in itertools.pairwise(clock)]
            network.append(spent[2])
            for stage, value in zip((*STAGES, "total"), (*spent, 1e3 * (clock[-1] - clock[0])), strict=True):
                timing.stages[stage].append(value)
        settled = True
    return network


class _Shots:
    """The frames of a video, from its beginning again where it ends; ``opened`` counts how often it began."""

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._threads, self.opened = name, threads, 0
        self._open()

    def _open(self) -> None:
        self._source: Source = open_source(self._name, self._threads)
        self._frames: Any = iter(self._source)
        self.opened += 1

    def next(self) -> NDArray[np.uint8]:
        """The next frame, RGB uint8 (H, W, 3)."""
        shot = next(self._frames, None)
        if shot is None:
            self.close()
            self._open()
            shot = next(self._frames, None)
        if shot is None:
            msg = f"no frame of --source {self._name} could be decoded ({self._source.broken} broken)"
            raise DataError(msg)
        pixels: NDArray[np.uint8] = shot.pixels
        return pixels

    def close(self) -> None:
        self._source.close()


def ratio(timing: Timing, reference: Timing) -> tuple[float, float, float]:
    """How many times faster than a reference the network is: median over the rounds, and the range of the middle 80 %.

    Each round's ratio is of two medians measured one after the other.
    """
    ratios = np.array(reference.rounds) / np.array(timing.rounds)
    low, middle, high = np.percentile(ratios, [10, 50, 90])
    return float(middle), float(low), float(high)


def missed(timings: Sequence[Timing], budget_ms: float) -> list[Timing]:
    """Those whose 99th percentile from decoder to mask exceeds a frame budget."""
    return [timing for timing in timings if timing.percentile("total", 99) > budget_ms]
