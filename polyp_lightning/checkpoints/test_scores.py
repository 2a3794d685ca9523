"""What ``test`` leaves on disk: scores of checkpoints in ``test_results.json``, of images in ``test_images.csv``."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyp_lightning.common.errors import DataError
from polyp_lightning.common.files import write_beside
from polyp_lightning.common.tables import read_rows, write_rows

IMAGES = "test_images.csv"
"""The values of single images of the last test, in a run's folder."""

SCORES = "test_results.json"
"""The scores of every checkpoint that was tested in a run's folder."""


@dataclass(frozen=True)
class ImageScore:
    """One test image at its original size; ``hd95`` in pixels, NaN where prediction or mask is empty.

    ``frame_score`` is what alarms are given by, see :mod:`polyp_lightning.common.frame_rule`, and ``polyp`` 1 where
    the mask has one, else 0; both are NaN in older files.
    """

    test_set: str
    name: str
    dice: float
    iou: float
    hd95: float
    frame_score: float = float("nan")
    polyp: float = float("nan")


@dataclass(frozen=True)
class CheckpointScores:
    """One checkpoint on one data set.

    Attributes:
        checkpoint: the file's name.
        sha256: of its bytes; empty where the weights came from no file.
        data: what it was tested on, as ``PolypDataModule.describe()`` says.
        test_sets: test set → metric → value, as :func:`~polyp_lightning.metrics.evaluation_metrics` and
            :func:`~polyp_lightning.metrics.alarm_metrics` name them, and ``images``, their number. A value that is not
            defined is null in the file and NaN here.
        date: when, ISO 8601.
    """

    checkpoint: str
    sha256: str
    data: Mapping[str, Any]
    test_sets: Mapping[str, Mapping[str, float]]
    date: str

    @property
    def images(self) -> int:
        """Number of images in all test sets."""
        return int(sum(scores["images"] for scores in self.test_sets.values()))

    @property
    def dice(self) -> float:
        """Mean Dice over the images of all test sets."""
        return sum(scores["images"] * scores["dice"] for scores in self.test_sets.values()) / self.images


def read_images(path: Path) -> list[ImageScore]:
    """Reads a test_images.csv, given the file or the run's folder."""
    return read_rows(path / IMAGES if path.is_dir() else path, ImageScore)


def write_images(path: Path, rows: Iterable[ImageScore]) -> None:
    """Writes a test_images.csv."""
    write_rows(path, ImageScore, rows)


def read_scores(folder: Path) -> list[CheckpointScores]:
    """All scores that `test` has left in a run's folder, the newest last; empty where it never ran."""
    path = folder / SCORES
    if not path.is_file():
        return []
    try:
        return [_score(values) for values in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is damaged ({error}); remove it and run `test` again"
        raise DataError(msg) from error


def add_scores(folder: Path, scores: CheckpointScores) -> None:
    """Adds scores to a run's folder, in place of older ones of the same file on the same data."""
    kept = [one for one in read_scores(folder) if _key(one) != _key(scores)]
    rows = [asdict(one) for one in (*kept, scores)]
    for row in rows:
        for name, values in row["test_sets"].items():
            # NaN is no JSON.
            row["test_sets"][name] = {key: None if value != value else value for key, value in values.items()}
    with write_beside(folder / SCORES) as path:
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _key(scores: CheckpointScores) -> tuple[str, Any, Any]:
    return scores.sha256, scores.data.get("data"), scores.data.get("split")


def _score(values: Mapping[str, Any]) -> CheckpointScores:
    sets = {
        name: {key: float("nan") if value is None else float(value) for key, value in scores.items()}
        for name, scores in values["test_sets"].items()
    }
    return CheckpointScores(**{**values, "test_sets": sets})
