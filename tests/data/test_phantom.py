import hashlib
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from polyp_lightning.data.sets.phantom import HEIGHT, WIDTH, draw_frame, frame_name

Frames = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def frames() -> Frames:
    drawn = [draw_frame(0, index) for index in range(100)]
    return np.stack([image for image, _ in drawn]), np.stack([mask for _, mask in drawn])


def test_draw_frame__shapes_and_range(frames: Frames) -> None:
    images, masks = frames
    assert images.shape == (100, HEIGHT, WIDTH, 3)
    assert masks.shape == (100, HEIGHT, WIDTH)
    assert images.dtype == masks.dtype == np.uint8
    assert set(np.unique(masks)) == {0, 1}


def test_draw_frame__is_decided_by_seed_and_number() -> None:
    assert all(np.array_equal(a, b) for a, b in zip(draw_frame(3, 5), draw_frame(3, 5), strict=True))
    digests = {hashlib.sha256(draw_frame(s, i)[0].tobytes()).hexdigest() for s, i in [(3, 5), (3, 6), (4, 5), (5, 3)]}
    assert len(digests) == 4


def test_draw_frame__some_frames_show_no_polyp(frames: Frames) -> None:
    empty = (frames[1].reshape(100, -1).max(1) == 0).mean()
    assert 0.04 <= empty <= 0.18


def test_draw_frame__polyps_vary_in_size(frames: Frames) -> None:
    shares = frames[1].mean((1, 2))
    shares = shares[shares > 0]
    assert shares.min() >= 0.005
    assert 0.2 < shares.max() < 0.45
    assert np.quantile(shares, 0.25) < 0.07 < 0.13 < np.quantile(shares, 0.85)


def test_draw_frame__is_pink_with_black_corners_and_highlights(frames: Frames) -> None:
    images = frames[0]
    red, green, blue = images[:, HEIGHT // 4 : -HEIGHT // 4, WIDTH // 4 : -WIDTH // 4].mean((0, 1, 2))
    assert red > 1.3 * green > 1.3 * blue
    corners = images[:, -3:, -3:]
    assert (corners == 0).all()
    assert ((images.min(3) > 200).reshape(100, -1).sum(1) > 20).mean() > 0.8


def test_draw_frame__contrast_is_low(frames: Frames) -> None:
    """No threshold on colour finds the polyps: the best one over all frames stays far below a network's Dice."""
    images, masks = (array[:, ::4, ::4] for array in frames)
    inside = images.max(3) > 30
    red_share = images[..., 0] / np.maximum(images.sum(3), 1)
    shown = masks.reshape(100, -1).max(1) > 0
    best = 0.0
    for threshold in np.linspace(0.35, 0.75, 41):
        found = (red_share > threshold) & inside
        both = (found & (masks > 0)).sum((1, 2))
        dice = 2 * both / np.maximum(found.sum((1, 2)) + masks.sum((1, 2)), 1)
        best = max(best, float(dice[shown].mean()))
    assert 0.1 < best < 0.6


def test_draw_frame__masks_end_where_the_lens_ends(frames: Frames) -> None:
    images, masks = frames
    assert images[masks > 0].max(1).mean() > 60
    assert (images[masks > 0].max(1) == 0).mean() < 1e-3


def test_draw_frame__is_quick() -> None:
    start = time.process_time()
    for index in range(10):
        draw_frame(1, index)
    # About 35 ms a frame where nothing else runs; the bound leaves room for a slow and busy machine.
    assert (time.process_time() - start) / 10 < 0.25


def test_frame_name__sorts_by_number() -> None:
    assert frame_name(7) < frame_name(12) < frame_name(560)
