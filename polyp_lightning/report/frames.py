"""The frames on which pruning hurt most: truth, dense and pruned side by side."""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from polyp_lightning.checkpoints.trained import TrainedNet, load_net
from polyp_lightning.common.errors import PolypError, UnnamedClassError
from polyp_lightning.data.cache import resize
from polyp_lightning.data.dataset import Dataset, ImageId
from polyp_lightning.data.sets import dataset_of
from polyp_lightning.deploy.contour import draw_contour
from polyp_lightning.metrics import per_image_dice
from polyp_lightning.report.document import Paragraph, Picture, Section
from polyp_lightning.report.numbers import number

MOST = 6
"""Frames shown: enough to see a pattern."""

_HEIGHT = 200
Mask = NDArray[np.uint8]
Nets = tuple[TrainedNet, TrainedNet]


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

    Both sides are image → its Dice by seed.

    >>> find_worst({"a": [0.9], "b": [0.8, 0.6]}, {"a": [0.8], "b": [0.1], "c": [0.0]}, 1)
    [Drop(name='b', before=0.7, after=0.1)]
    """
    drops = [Drop(name, fmean(values), fmean(after[name])) for name, values in before.items() if name in after]
    hurt = [drop for drop in drops if drop.after < drop.before]
    return sorted(hurt, key=lambda drop: (drop.after - drop.before, drop.name))[:most]


def show_worst(
    title: str,
    text: str,
    paths: tuple[Path, Path],
    root: Path,
    name: str,
    find: Callable[[Nets, Dataset], Sequence[tuple[Drop, ImageId]]],
    named: Collection[str] = (),
) -> list[Section]:
    """Shows the images on which pruning hurt most, if any; says why where the data or networks are not there.

    The paths are the checkpoints of the dense and of the pruned network. ``find`` chooses among the images of the data
    set that the dense one was trained on; the pictures' names begin with ``name``. ``named`` are the networks of the
    user's own that may be imported.
    """
    try:
        nets = load_net(paths[0], "RUNS", named), load_net(paths[1], "RUNS", named)
        dataset = dataset_of(nets[0].data, root)
    except UnnamedClassError as error:
        return [Section(title, [Paragraph(f"Not shown: {error}, with `--arch {error.path}`.")])]
    except PolypError as error:
        return [Section(title, [Paragraph(f"Not shown: {error}")])]
    drops = enumerate(find(nets, dataset))
    pictures = [draw_image(drop, image, dataset, nets, f"{name}-{place}") for place, (drop, image) in drops]
    return [Section(title, [Paragraph(text), *pictures])] if pictures else []


@torch.no_grad()
def predict_mask(net: TrainedNet, image: Mask) -> Mask:
    """Predicts the mask at the image's size, uint8 (H, W) of 0 and 1: logits are resized, then thresholded."""
    pixels = torch.from_numpy(resize(image, net.image_size)).permute(2, 0, 1)[None]
    logits = net.net(net.network_input(pixels))
    logits = F.interpolate(logits, image.shape[:2], mode="bilinear")
    found: Mask = (logits[0, 0] > 0).to(torch.uint8).numpy()
    return found


def find_validation_drops(nets: Nets, dataset: Dataset) -> list[tuple[Drop, ImageId]]:
    """Finds the validation images that a pruned network lost most on, against a dense one."""
    scores: list[dict[str, list[float]]] = [{}, {}]
    ids = {"/".join(image): image for image in dataset.val}
    for name, frame in ids.items():
        image, mask = _read(dataset, frame)
        truth = torch.from_numpy(mask)[None] > 0
        for net, found in zip(nets, scores, strict=True):
            predicted = torch.from_numpy(predict_mask(net, image))[None] > 0
            found[name] = [float(per_image_dice(predicted, truth))]
    return [(drop, ids[drop.name]) for drop in find_worst(scores[0], scores[1])]


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


def draw_image(drop: Drop, frame: ImageId, dataset: Dataset, nets: Nets, name: str) -> Picture:
    """Draws one image: truth, dense and pruned from left to right."""
    image, mask = _read(dataset, frame)
    data = join_panels(image, [mask, *(predict_mask(net, image) for net in nets)])
    scores = f"Dice {number(drop.before)} dense, {number(drop.after)} pruned"
    alt = f"Frame {frame[1]} three times, with the contour of the true, the dense and the pruned mask; {scores}."
    return Picture(name, data, "jpg", alt, f"{frame[1]}: truth · dense · pruned; {scores}")


def _read(dataset: Dataset, frame: ImageId) -> tuple[Mask, Mask]:
    image, mask = dataset.read(frame)
    return image, np.zeros(image.shape[:2], np.uint8) if mask is None else mask
