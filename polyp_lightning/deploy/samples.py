"""Frames to try an exported model on: of the data that the network was trained on, or drawn phantoms."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.cache import resize
from polyp_lightning.data.dataset import ImageId
from polyp_lightning.data.sets import dataset_of
from polyp_lightning.data.sets.phantom import draw_frame


@dataclass(frozen=True)
class Sample:
    """One frame as the network sees it.

    Attributes:
        frame: RGB, uint8 (S, S, 3).
        mask: uint8 (H, W) of 0 and 1 at the original resolution, or None.
    """

    frame: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None


def draw_phantoms(size: int, count: int) -> list[Sample]:
    """Draws frames, the same ones every time."""
    drawn = (draw_frame(0, index) for index in range(count))
    return [Sample(resize(frame, size), mask) for frame, mask in drawn]


def read_samples(facts: Mapping[str, Any], root: Path, part: str, size: int, count: int | None = None) -> list[Sample]:
    """Reads frames of the data set and split that a checkpoint was trained on, as it says by its ``facts``.

    ``part`` is ``train``, ``val`` or ``test`` (all test sets together), of which ``count`` frames are evenly spread.
    """
    dataset = dataset_of(facts, root)
    parts: dict[str, list[ImageId]] = {"train": dataset.train, "val": dataset.val}
    ids = parts.get(part) or [frame for frames in dataset.tests.values() for frame in frames]
    pairs = (dataset.read(image) for image in _spread(ids, count))
    return [Sample(resize(frame, size), mask) for frame, mask in pairs]


def parity_samples(facts: Mapping[str, Any], root: Path, size: int, count: int) -> tuple[list[Sample], str]:
    """Returns validation frames where the data are at hand, else phantoms; and what they are in words."""
    try:
        samples = read_samples(facts, root, "val", size, count)
    except (ConfigError, DataError):
        return draw_phantoms(size, count), f"{count} drawn phantoms"
    return samples, f"{len(samples)} validation frames of {facts['data']}"


def _spread(ids: list[ImageId], count: int | None) -> list[ImageId]:
    if count is None or count >= len(ids):
        return ids
    return [ids[i] for i in np.linspace(0, len(ids) - 1, count).round().astype(int)]
