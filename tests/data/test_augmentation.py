import os
from typing import get_args

import numpy as np
import pytest

from polyp_lightning.data.augmentation import Augmentation, Strength


def _frame() -> tuple[np.ndarray, np.ndarray]:
    image = np.zeros((64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:36, 24:44] = 1
    image[mask > 0] = 200
    image.flags.writeable = mask.flags.writeable = False  # as they come from the cache
    return image, mask


def test_augmentation__is_decided_by_the_seed() -> None:
    image, mask = _frame()
    first, second = Augmentation(), Augmentation()
    first(image, mask, 99)  # what was drawn before does not matter
    for seed in range(5):
        a, b = first(image, mask, seed), second(image, mask, seed)
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(a[1], b[1])
    assert len({first(image, mask, seed)[0].tobytes() for seed in range(20)}) > 15


@pytest.mark.parametrize("strength", get_args(Strength))
def test_augmentation__mask_follows_the_frame(strength: Strength) -> None:
    image, mask = _frame()
    augment = Augmentation(strength)
    moved = 0
    for seed in range(40):
        bright, region = augment(image, mask, seed)
        assert bright.shape == image.shape
        assert bright.dtype == region.dtype == np.uint8
        assert set(np.unique(region)) <= {0, 1}
        overlap = (bright[..., 0] > 90) & (region > 0)
        assert 2 * overlap.sum() / ((bright[..., 0] > 90).sum() + region.sum()) > 0.93
        moved += not np.array_equal(region, mask)
    assert moved > 30


def test_augmentation__leaves_the_input_alone_and_asks_no_network() -> None:
    image, mask = _frame()
    before = image.copy(), mask.copy()
    Augmentation()(image, mask, 1)
    assert np.array_equal(image, before[0])
    assert np.array_equal(mask, before[1])
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


def test_augmentation__steps_are_drawn_independently() -> None:
    """Nothing and each flip, with neither map nor colour, come as often as their probabilities multiply to."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    augment = Augmentation()
    results = [augment(image, image[..., 0] // 128, seed)[0].tobytes() for seed in range(1500)]
    flips = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    expected = 0.5 * 0.5 * 0.3 * 0.3
    for flip in flips:
        assert 0.5 * expected < results.count(flip.tobytes()) / 1500 < 1.7 * expected


def test_augmentation__strong_zooms_and_turns_further() -> None:
    """A bar 30 × 6 pixels: over many seeds its area and its direction, by the mask's moments."""
    mask = np.zeros((96, 96), np.uint8)
    mask[45:51, 33:63] = 1
    image = np.repeat(mask[..., None] * np.uint8(200), 3, 2)
    areas: dict[str, list[int]] = {"light": [], "strong": []}
    steepest = dict.fromkeys(areas, 0.0)
    for strength in get_args(Strength):
        augment = Augmentation(strength)
        for seed in range(200):
            rows, columns = np.nonzero(augment(image, mask, seed)[1])
            areas[strength].append(len(rows))
            spread = np.cov(columns, rows)
            angle = abs(np.degrees(0.5 * np.arctan2(2 * spread[0, 1], spread[0, 0] - spread[1, 1])))
            steepest[strength] = max(steepest[strength], angle)
    assert steepest["light"] < 34
    assert steepest["strong"] > 80
    assert min(areas["strong"]) < 0.8 * min(areas["light"])
    assert max(areas["strong"]) > 1.15 * max(areas["light"])
