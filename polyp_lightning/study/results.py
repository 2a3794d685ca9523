"""What a study leaves on disk: ``results.csv``, one row for each run and test set, and the values of single images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyp_lightning.checkpoints.test_scores import IMAGES as IMAGES
from polyp_lightning.checkpoints.test_scores import ImageScore as ImageScore
from polyp_lightning.checkpoints.test_scores import read_images as read_images
from polyp_lightning.checkpoints.test_scores import write_images as write_images
from polyp_lightning.common.tables import read_rows, write_rows

RESULTS = "results.csv"
"""The table's name in a study's folder."""

RUNS = "runs"
"""Where each run has a folder of its own, named by its id."""

Kind = Literal["parent", "dense", "pruned", "scratch"]


@dataclass(frozen=True)
class Result:
    """One run on one test set: everything that made the numbers, and the numbers. An unknown number is NaN.

    Attributes:
        run: the run's id, also the name of its folder.
        kind: parent (the dense network that others start from), dense, pruned, or scratch (the architecture of a pruned
            run, trained from random weights).
        encoder_weights: what the encoder started from: imagenet, the name of a file, or empty (random).
        data: the data set that was trained on.
        test_set: the test set's name with its size, of the same data set or of another.
        criterion: by which filters were removed; empty for dense.
        schedule: during (while training), oneshot (in one step, then fine-tuned) or outside (by other software); empty
            for dense and scratch.
        distill: 1 where a dense teacher took part.
        target: share of the dense MACs that was asked for; 1 for dense.
        seed: of weights, order and augmentation.
        epochs: in all, those of a dense network that was pruned afterwards, or of the parent, included.
        val_dice: of the chosen checkpoint, on the validation images at network resolution.
        dice: mean over test images of the Dice at 0.5, at their original sizes, as for ``iou``.
        pranet_dice: averaged over 256 thresholds.
        hd95: in pixels, over the images where it is defined.
        false_positive_rate: on frames without a polyp; NaN where there are none.
        gmacs: 10⁹ multiply-accumulates of one image at ``image_size``.
        params: used parameters.
        ms: median milliseconds of one image; NaN where other work on the machine disturbed the measurement.
        ms_backend: what measured them, such as torch, with its number of ``threads``, on the processor ``machine``.
        minutes: wall time of its training and tests; what a killed attempt took does not count.
        checkpoint: the tested file, relative to the study's folder.
        command: what trained it.
        date: when it ended, ISO 8601.
    """

    run: str
    kind: Kind
    arch: str
    encoder: str
    encoder_weights: str
    data: str
    split: str
    test_set: str
    image_size: int
    criterion: str
    schedule: str
    distill: int
    target: float
    seed: int
    epochs: int
    val_dice: float
    dice: float
    iou: float
    pranet_dice: float
    hd95: float
    false_positive_rate: float
    gmacs: float
    dense_gmacs: float
    params: int
    dense_params: int
    ms: float
    ms_backend: str
    threads: int
    machine: str
    minutes: float
    checkpoint: str
    command: str
    versions: str
    date: str


def read_results(path: Path) -> list[Result]:
    """Reads the rows of a results.csv, given the file or the study's folder.

    Raises:
        DataError: there is no such file, or it is not one of a study.
    """
    return read_rows(path / RESULTS if path.is_dir() else path, Result)


def append_result(path: Path, result: Result) -> None:
    """Adds a row, in place of an older one of the same run and test set."""
    old = read_rows(path, Result) if path.is_file() else []
    own = (result.run, result.test_set)
    write_rows(path, Result, [*(row for row in old if (row.run, row.test_set) != own), result])


def change_results(path: Path, change: Callable[[Result], Result]) -> None:
    """Replaces every row by what ``change`` makes of it."""
    write_rows(path, Result, [change(row) for row in read_rows(path, Result)])
