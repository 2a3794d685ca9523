import io
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from polyp_lightning.checkpoints.trained import TrainedNet
from polyp_lightning.data.sets import dataset_of
from polyp_lightning.report.frames import find_validation_drops, find_worst, join_panels, predict_mask

FACTS = {"data": "phantom", "split": "by-number", "train": 10, "val": 2, "test": 2}


class Brightness(nn.Module):
    """Polyp where the first channel is bright."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, 1, H, W)."""
        return images[:, :1] - self.threshold


def net(threshold: float) -> TrainedNet:
    known = {"net": Brightness(threshold).eval(), "mean": (0.0,) * 3, "std": (1.0,) * 3, "image_size": 64}
    return TrainedNet(**{field.name: known.get(field.name) for field in fields(TrainedNet)})


def test_worst__by_the_loss_of_the_mean_and_never_an_image_that_gained() -> None:
    before = {"a": [0.9, 0.7], "b": [0.9, 0.9], "c": [0.5, 0.5], "only": [1.0]}
    after = {"a": [0.7, 0.5], "b": [0.1, 0.3], "c": [0.6, 0.6]}
    assert [(drop.name, round(drop.after - drop.before, 6)) for drop in find_worst(before, after)] == [
        ("b", -0.7),
        ("a", -0.2),
    ]
    assert [drop.name for drop in find_worst(before, after, most=1)] == ["b"]


def test_mask_of__a_bright_half_at_the_original_size() -> None:
    image = np.zeros((100, 160, 3), np.uint8)
    image[:, 80:] = 255
    mask = predict_mask(net(0.5), image)
    assert mask.shape == (100, 160)
    assert not mask[:, :78].any()
    assert mask[:, 82:].all()


def test_validation_drops__a_network_that_sees_nothing_loses_all(tmp_path: Path) -> None:
    dataset = dataset_of(FACTS, tmp_path)
    drops = [drop for drop, _ in find_validation_drops((net(-1.0), net(2.0)), dataset)]
    # A network that calls everything polyp against one that calls nothing: Dice 2·share / (1 + share) against 0.
    expected = {}
    for frame in dataset.val:
        share = dataset.read(frame)[1].mean()
        expected["/".join(frame)] = 2 * share / (1 + share)
    assert {drop.name for drop in drops} == {name for name, value in expected.items() if value > 0}
    for drop in drops:
        assert drop.before == pytest.approx(expected[drop.name], abs=1e-6)
        assert drop.after == 0.0


def test_side_by_side__three_panels_of_equal_size() -> None:
    image = np.full((100, 150, 3), 90, np.uint8)
    mask = np.zeros((100, 150), np.uint8)
    mask[30:60, 30:60] = 1
    picture = Image.open(io.BytesIO(join_panels(image, [mask, 0 * mask, mask])))
    assert picture.size == (3 * 300 + 2 * 6, 200)
    pixels = np.asarray(picture).astype(int)
    green = (pixels[..., 1] - pixels[..., 0]) > 80
    panels = [green[:, start : start + 300].any() for start in (0, 306, 612)]
    assert panels == [True, False, True]
