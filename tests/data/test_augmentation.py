import os
from typing import get_args

import cv2
import numpy as np
import pytest

from polyp_lightning.data.augmentation import Augmentation, Strength, exchange_colours


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
        square = bright[..., 0] > bright.max() / 2
        # Motion blur moves the borders of so small a square.
        least = 0.8 if strength == "hospitals" else 0.93
        assert 2 * (square & (region > 0)).sum() / (square.sum() + region.sum()) > least
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
    areas: dict[str, list[int]] = {strength: [] for strength in get_args(Strength)}
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


def _two_looks() -> tuple[np.ndarray, np.ndarray]:
    """A reddish frame with a black border, and a smaller, bluish and flatter one without."""
    draw = np.random.default_rng(0)
    first = np.clip(draw.normal((150, 90, 80), (25, 20, 15), (80, 80, 3)), 40, 250).astype(np.uint8)
    first[:, :20] = draw.integers(0, 12, (80, 20, 3))
    second = np.clip(draw.normal((110, 120, 140), (15, 12, 10), (40, 60, 3)), 40, 250).astype(np.uint8)
    return first, second


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_exchange_colours__gives_mean_and_spread_of_the_other(share: float) -> None:
    """Within rounding, of the pixels that are no border; by NumPy."""
    image, other = _two_looks()
    exchanged = exchange_colours(image, other, share)
    own, result = (one[:, 20:].reshape(-1, 3).astype(float) for one in (image, exchanged))
    theirs = other.reshape(-1, 3).astype(float)
    assert result.mean(0) == pytest.approx((1 - share) * own.mean(0) + share * theirs.mean(0), abs=0.6)
    assert result.std(0) == pytest.approx((1 - share) * own.std(0) + share * theirs.std(0), abs=0.6)
    assert exchanged[:, :20].max() < 0.5 * exchanged[:, 20:].mean(), "the border stays dark"


def test_exchange_colours__at_most_doubles_the_contrast() -> None:
    image, _ = _two_looks()
    flat = np.clip(128 + (image[:, 20:].astype(int) - image[:, 20:].mean((0, 1))) / 10, 0, 255).astype(np.uint8)
    result = exchange_colours(flat, image, 1.0)
    assert np.all(result.std((0, 1)) < 2.1 * flat.std((0, 1)))
    # Nothing but a border: no colours to take, and none to change.
    black = np.zeros_like(image)
    assert np.array_equal(exchange_colours(black, image, 1.0), black)
    assert exchange_colours(image, black, 1.0).shape == image.shape


def test_augmentation__hospitals_takes_the_colours_of_another_image_in_half_of_the_images() -> None:
    """The other image is bluish; changes of colour alone hardly reach a ratio of blue to red of 0.7."""
    image, other = _two_looks()
    mask = np.zeros(image.shape[:2], np.uint8)
    bluish = {}
    for strength in ("strong", "hospitals"):
        augment = Augmentation(strength)
        means = [augment(image, mask, seed, other)[0].mean((0, 1)) for seed in range(200)]
        bluish[strength] = np.mean([blue > 0.7 * red for red, _, blue in means])
    assert bluish["strong"] < 0.05
    assert 0.2 < bluish["hospitals"] < 0.5
    means = [augment(image, mask, seed)[0].mean((0, 1)) for seed in range(50)]
    assert np.mean([blue > 0.7 * red for red, _, blue in means]) < 0.05, "without another image"


def test_augmentation__hospitals_degrades_some_images() -> None:
    """Fine detail, as the variance of the Laplacian, is lost in more images than by maps and colours alone."""
    image = np.random.default_rng(0).integers(60, 200, (96, 96, 3)).astype(np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8)
    sharpness = {
        strength: [cv2.Laplacian(Augmentation(strength)(image, mask, seed)[0], cv2.CV_64F).var() for seed in range(150)]
        for strength in ("strong", "hospitals")
    }
    blurred = 0.3 * np.median(sharpness["strong"])
    shares = {strength: np.mean(np.array(values) < blurred) for strength, values in sharpness.items()}
    assert shares["hospitals"] > shares["strong"] + 0.1, shares
