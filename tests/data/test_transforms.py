import os

import numpy as np

from polyp_lightning.data.transforms import Augmentation


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


def test_augmentation__mask_follows_the_frame() -> None:
    image, mask = _frame()
    augment = Augmentation()
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
