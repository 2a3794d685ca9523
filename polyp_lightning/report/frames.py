"""The frames on which pruning hurt most: truth, dense and pruned side by side."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from polyp_lightning.callbacks.mask_writer import draw_contour
from polyp_lightning.checkpoints.trained import TrainedNet, load_net
from polyp_lightning.data.cache import resize
from polyp_lightning.data.dataset import Dataset, ImageId
from polyp_lightning.data.sets import dataset_of
from polyp_lightning.metrics import per_image_dice
from polyp_lightning.networks.build import normalise, per_channel
from polyp_lightning.report.document import Picture
from polyp_lightning.report.numbers import number

MOST = 6
"""Frames shown: enough to see a pattern."""

_HEIGHT = 200
Mask = NDArray[np.uint8]
Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Drop:
    """One image's Dice before and after pruning, means over seeds."""

    name: str
    before: float
    after: float


def find_worst(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]], most: int = MOST
) -> list[Drop]:
    """Finds the images that lost most, the largest loss first; an image that is not on both sides does not count.

    Args:
        before: image → its Dice by seed, dense.
        after: likewise, pruned.
        most: how many.

    >>> find_worst({"a": [0.9], "b": [0.8, 0.6]}, {"a": [0.8], "b": [0.1], "c": [0.0]}, 1)
    [Drop(name='b', before=0.7, after=0.1)]
    """
    drops = [Drop(name, fmean(values), fmean(after[name])) for name, values in before.items() if name in after]
    hurt = [drop for drop in drops if drop.after < drop.before]
    return sorted(hurt, key=lambda drop: (drop.after - drop.before, drop.name))[:most]


class Frames:
    """Images by name, of the data that a checkpoint was trained on.

    Args:
        facts: what the checkpoint says of its data.
        root: the folder of data sets.

    Raises:
        ConfigError: the data set or split is unknown.
        DataError: the data are not there.
    """

    def __init__(self, facts: Mapping[str, Any], root: Path) -> None:
        self.dataset: Dataset = dataset_of(facts, root)

    def read(self, frame: ImageId) -> tuple[Mask, Mask]:
        """Returns RGB, uint8 (H, W, 3), and its mask (H, W) of 0 and 1."""
        source = self.dataset.sources[frame[0]]
        image, mask = source.read(source.names.index(frame[1]))
        return image, np.zeros(image.shape[:2], np.uint8) if mask is None else mask

    def of_test(self, test_set: str, name: str) -> ImageId | None:
        """Finds a test image by name; None where the data set has no such test set or image."""
        return next((frame for frame in self.dataset.tests.get(test_set, []) if frame[1] == name), None)


@torch.no_grad()
def predict_mask(net: TrainedNet, image: Mask) -> Mask:
    """Predicts the mask at the image's size, uint8 (H, W) of 0 and 1: logits are resized, then thresholded."""
    pixels = torch.from_numpy(resize(image, net.image_size)).permute(2, 0, 1)[None]
    logits = net.net(normalise(pixels, per_channel(net.mean), per_channel(net.std)))
    logits = F.interpolate(logits, image.shape[:2], mode="bilinear")
    found: Mask = (logits[0, 0] > 0).to(torch.uint8).numpy()
    return found


def find_validation_drops(nets: tuple[TrainedNet, TrainedNet], frames: Frames) -> list[Drop]:
    """Finds the validation images that a pruned network lost most on, against a dense one."""
    scores: list[dict[str, list[float]]] = [{}, {}]
    for frame in frames.dataset.val:
        image, mask = frames.read(frame)
        truth = torch.from_numpy(mask)[None] > 0
        for net, found in zip(nets, scores, strict=True):
            predicted = torch.from_numpy(predict_mask(net, image))[None] > 0
            found["/".join(frame)] = [float(per_image_dice(predicted, truth))]
    return find_worst(scores[0], scores[1])


def join_panels(image: Mask, masks: Sequence[Mask]) -> bytes:
    """Shows an image once for each mask, with its contour; a JPEG."""
    panels = []
    for mask in masks:
        drawn = draw_contour(image, mask * np.uint8(255))
        panels.append(drawn.resize((round(drawn.width * _HEIGHT / drawn.height), _HEIGHT), Image.Resampling.BILINEAR))
    gap = 6
    row = Image.new("RGB", (sum(panel.width + gap for panel in panels) - gap, _HEIGHT), "white")
    for number_, panel in enumerate(panels):
        row.paste(panel, (number_ * (panel.width + gap), 0))
    buffer = io.BytesIO()
    row.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def draw_image(drop: Drop, frame: ImageId, frames: Frames, nets: tuple[TrainedNet, TrainedNet], name: str) -> Picture:
    """Draws one image: truth, dense and pruned from left to right."""
    image, mask = frames.read(frame)
    data = join_panels(image, [mask, *(predict_mask(net, image) for net in nets)])
    scores = f"Dice {number(drop.before)} dense, {number(drop.after)} pruned"
    alt = f"Frame {frame[1]} three times, with the contour of the true, the dense and the pruned mask; {scores}."
    return Picture(name, data, "jpg", alt, f"{frame[1]}: truth · dense · pruned; {scores}")


def load_pair(dense: Path, pruned: Path) -> tuple[TrainedNet, TrainedNet]:
    """Loads two networks from their checkpoints.

    Raises:
        ConfigError: one of them is damaged.
    """
    return load_net(dense, "RUNS"), load_net(pruned, "RUNS")
