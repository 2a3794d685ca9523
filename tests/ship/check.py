"""Measures the package's networks against the marks: ``check.py --out runs/ship-check`` (`make ship-check`).

Each network is exported, and the file is scored at the original sizes on the test images of the data that it was
trained on, timed on one core, and run over videos. Tables are written as CSV, and overlays of the worst and of random
frames to be looked at, into a folder that is not for the repository: its pictures are of patients. ``--write_card``
writes the tables, and the card drawn from them, beside the networks.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import card
import numpy as np
from clean_video import write_clean_video
from marks import (
    ImageMark,
    SetMark,
    SpeedMark,
    VideoMark,
    choose_shown,
    find_image,
    measure_speed,
    run,
    score_images,
    sum_up,
    watch_video,
)
from PIL import Image

from polyp_lightning.callbacks.mask_writer import draw_contour
from polyp_lightning.checkpoints import named
from polyp_lightning.common.tables import write_rows
from polyp_lightning.data.dataset import Dataset
from polyp_lightning.data.sets import dataset_of
from polyp_lightning.deploy.bundle import Bundle, load_model, read_bundle
from polyp_lightning.deploy.first_use import export_once
from polyp_lightning.deploy.runners.arrays import Runner
from polyp_lightning.deploy.video.overlay import resize_to_mask

SHOWN = 10
"""So many of the worst and of random frames are drawn of each test set."""


def main() -> None:
    """Measures, and says what was reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/ship-check"))
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("POLYP_DATA") or "datasets"))
    parser.add_argument("--video", type=Path, action="append", default=[], help="a real video beside the made one")
    parser.add_argument("--rounds", type=int, default=10, help="of the timing")
    parser.add_argument("--most", type=int, help="only so many images of a test set, for a rehearsal")
    parser.add_argument("--write_card", action="store_true", help="write tables and card beside the networks")
    options = parser.parse_args()
    check(options.out, options.root, options.video, options.rounds, options.most)
    if options.write_card:
        card.write(options.out, named.FOLDER)


def check(out: Path, root: Path, videos: Sequence[Path], rounds: int, most: int | None = None) -> None:
    """Writes the tables and the overlays of all networks of the package."""
    models = {name: export_once(named.find_net(name, "--net")) for name in named.list_nets()}
    images, sets, watched = [], [], []
    for name, model in models.items():
        bundle = read_bundle(model)
        data = limit(dataset_of(bundle.facts["data"], root), most)
        backends = bundle.format.backends
        runners = {backend: load_model(bundle, backend, 1) for backend in backends}
        scored = [mark for one, runner in runners.items() for mark in score_images(name, one, runner, bundle, data)]
        images += scored
        sets += sum_up(scored, bundle.alarm_threshold)
        shown = [mark for mark in scored if mark.backend == backends[0]]
        draw_overlays(out / "overlays" / name, runners[backends[0]], bundle, data, shown)
        for video in [write_clean_frames(out, data), *videos]:
            watched.append(watch_video(name, model, backends[-1], video, print))
    write_rows(out / "images.csv", ImageMark, images)
    write_rows(out / card.SETS, SetMark, sets)
    write_rows(out / card.VIDEOS, VideoMark, watched)
    # Last: nothing else of this process then takes the processor.
    write_rows(out / card.SPEEDS, SpeedMark, measure_speed(models, rounds, 20))
    print(card.draw_tables(out))


def limit(data: Dataset, most: int | None) -> Dataset:
    """Leaves only the first so many images of each test set."""
    for name, images in data.tests.items():
        data.tests[name] = images[:most]
    return data


def write_clean_frames(out: Path, data: Dataset) -> Path:
    """Makes the video of the test set without polyps, once."""
    target = out / "clean-frames.mp4"
    if not target.is_file():
        clean = [image for name, images in data.tests.items() if "clean" in name for image in images]
        write_clean_video((data.read(image)[0] for image in clean), target)
    return target


def draw_overlays(folder: Path, runner: Runner, bundle: Bundle, data: Dataset, marks: Sequence[ImageMark]) -> None:
    """Draws the worst and random frames of each test set: the mask on the left, what was predicted on the right."""
    for test_set, group in groupby(marks, lambda mark: mark.test_set):
        for number, (how, mark) in enumerate(choose_shown(list(group), SHOWN)):
            target = folder / test_set / f"{how}-{number % SHOWN:02d}-dice{mark.dice:.2f}-{mark.name}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.hstack(list(draw_pair(runner, bundle, data, mark)))).save(target, quality=90)


def draw_pair(runner: Runner, bundle: Bundle, data: Dataset, mark: ImageMark) -> Iterator[np.ndarray]:
    """Draws the outline of an image's mask, and of the polyps predicted; without an alarm there is none."""
    pixels, mask = data.read(find_image(data, mark))
    found = np.zeros_like(mask)
    if mark.score > bundle.alarm_threshold:
        threshold = min(bundle.threshold, bundle.alarm_threshold)
        found = resize_to_mask(run(runner, bundle, pixels), threshold, mask.shape[0], mask.shape[1])
    for one in (mask, found):
        yield np.asarray(draw_contour(pixels, one * np.uint8(255)))


if __name__ == "__main__":
    main()
