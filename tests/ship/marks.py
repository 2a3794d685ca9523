"""What the package's networks reach, as rows of tables: of each exported file in each backend on each test set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from polyp_lightning.common.frame_rule import frame_score
from polyp_lightning.common.machine import processor
from polyp_lightning.data.cache import resize, resize_mask
from polyp_lightning.data.dataset import Dataset, ImageId
from polyp_lightning.deploy.benchmark.measuring import BenchmarkOptions, benchmark
from polyp_lightning.deploy.bundle import Bundle
from polyp_lightning.deploy.parity import image_dice
from polyp_lightning.deploy.runners.arrays import Runner
from polyp_lightning.deploy.video.pipeline import StreamOptions
from polyp_lightning.deploy.video.stream import stream
from polyp_lightning.metrics import PolypSensitivity
from polyp_lightning.study.statistics import bootstrap_interval


@dataclass(frozen=True)
class ImageMark:
    """One image: Dice at its original size, its score, its polyps and how many of them were found."""

    net: str
    backend: str
    test_set: str
    name: str
    dice: float
    score: float
    polyps: int
    found: int


@dataclass(frozen=True)
class SetMark:
    """One test set: mean Dice of frames with a polyp, and counts of alarms, with 95 % intervals.

    Of Dice it is the percentile bootstrap over images, of shares Wilson's. NaN where there are no such frames.
    """

    net: str
    backend: str
    test_set: str
    images: int
    dice: float
    dice_low: float
    dice_high: float
    polyp_frames: int
    found_frames: int
    found_low: float
    found_high: float
    polyps: int
    found_polyps: int
    clean_frames: int
    false_alarms: int
    false_low: float
    false_high: float


@dataclass(frozen=True)
class SpeedMark:
    """One exported file in one backend: the network alone, one thread, batch 1, in milliseconds."""

    net: str
    backend: str
    image_size: int
    p50: float
    p99: float
    fps: float
    machine: str


@dataclass(frozen=True)
class VideoMark:
    """One video: alarms a minute of single frames, and of those that last."""

    net: str
    video: str
    seconds: float
    frames: int
    frames_with_alarm: int
    single_per_minute: float
    lasting_per_minute: float
    rule: str


def score_images(net: str, backend: str, runner: Runner, bundle: Bundle, data: Dataset) -> Iterator[ImageMark]:
    """Scores every test image of a data set, one at a time."""
    sensitivity = PolypSensitivity(bundle.alarm_threshold)
    for test_set, images in data.tests.items():
        for image in images:
            pixels, mask = data.read(image)
            probability = run(runner, bundle, pixels)
            seen = resize_mask(mask, bundle.image_size)
            polyps = sensitivity.values(torch.from_numpy(probability)[None], torch.from_numpy(seen)[None])
            dice, score = image_dice(probability, mask), frame_score(probability)
            yield ImageMark(net, backend, test_set, image[1], dice, score, len(polyps), int(polyps.sum()))


def run(runner: Runner, bundle: Bundle, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns a frame's probabilities (S, S)."""
    return runner(resize(pixels, bundle.image_size)[None])[0, 0]


def sum_up(marks: Sequence[ImageMark], threshold: float) -> list[SetMark]:
    """Sums up the images of one network, set by set."""

    def key(mark: ImageMark) -> tuple[str, str, str]:
        return mark.net, mark.backend, mark.test_set

    return [_sum_up_set(list(group), threshold) for _, group in groupby(sorted(marks, key=key), key)]


def _sum_up_set(marks: Sequence[ImageMark], threshold: float) -> SetMark:
    first = marks[0]
    shown, clean = [one for one in marks if one.polyps], [one for one in marks if not one.polyps]
    dice = np.array([one.dice for one in shown])
    low, high = bootstrap_interval(dice) if shown else (np.nan, np.nan)
    found, false = (sum(one.score > threshold for one in part) for part in (shown, clean))
    return SetMark(
        first.net, first.backend, first.test_set, len(marks), float(dice.mean()) if shown else np.nan, low, high,
        len(shown), found, *share_interval(found, len(shown)), sum(one.polyps for one in shown),
        sum(one.found for one in shown), len(clean), false, *share_interval(false, len(clean)),
    )  # fmt: skip


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share, NaN of nothing."""
    if not of:
        return np.nan, np.nan
    found = stats.binomtest(count, of).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def measure_speed(models: dict[str, Path], rounds: int, frames: int) -> list[SpeedMark]:
    """Times exported files in turns, each in all the backends that it has here."""
    timings = benchmark(BenchmarkOptions(list(models.values()), rounds=rounds, frames=frames, memory=False))
    names = {path: net for net, path in models.items()}
    return [
        SpeedMark(
            names[timing.candidate.model], timing.candidate.backend, timing.candidate.image_size,
            timing.percentile("network", 50), timing.percentile("network", 99),
            1e3 / timing.percentile("network", 50), processor(),
        )
        for timing in timings
    ]  # fmt: skip


def watch_video(net: str, model: Path, backend: str, video: Path, say: Callable[[str], None]) -> VideoMark:
    """Counts the alarms of a video."""
    report = stream(StreamOptions(model, str(video), backend=backend), say)
    alarms = report.alarms
    return VideoMark(
        net, video.stem, alarms.seconds, report.frames, report.polyps, alarms.per_minute(alarms.single),
        alarms.per_minute(alarms.lasting), str(alarms.lasting),
    )  # fmt: skip


def choose_shown(marks: Sequence[ImageMark], count: int) -> list[tuple[str, ImageMark]]:
    """Chooses of one test set's images the worst ones and as many at random, each with how it was chosen.

    The worst are those of the lowest Dice, which is 0 or 1 without a polyp, and among equals of the highest score.
    """
    worst = sorted(marks, key=lambda mark: (mark.dice, -mark.score))[:count]
    drawn = np.random.default_rng(0).permutation(len(marks))[:count]
    return [*(("worst", one) for one in worst), *(("random", marks[number]) for number in drawn)]


def find_image(data: Dataset, mark: ImageMark) -> ImageId:
    """Finds a marked image in its data set."""
    return next(image for image in data.tests[mark.test_set] if image[1] == mark.name)
