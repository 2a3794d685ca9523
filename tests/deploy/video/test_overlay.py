"""What a probability map says, and how it is drawn."""

import numpy as np
import pytest

from polyp_lightning.deploy.contour import draw_contour
from polyp_lightning.deploy.video.overlay import CONTOUR, draw_finding, find_polyp, resize_to_mask


@pytest.mark.parametrize("count", [0, 9, 10, 11, 5000])
def test_find__needs_a_thousandth_of_the_pixels(count: int) -> None:
    probability = np.full((100, 100), 0.2, np.float32)
    probability.flat[:count] = np.linspace(0.9, 0.6, count) if count else ()
    finding = find_polyp(probability, 0.5)
    assert finding.polyp == (count >= 10)
    deciding = sorted(probability.ravel())[::-1][9]
    assert finding.confidence == pytest.approx(deciding if count >= 10 else 1 - deciding)


def test_mask_at__is_a_comparison_at_the_frames_size() -> None:
    probability = np.zeros((32, 32), np.float32)
    probability[8:16, 4:12] = 1.0
    mask = resize_to_mask(probability, 0.5, 64, 96)
    expected = np.zeros((64, 96), np.uint8)
    expected[16:32, 12:36] = 1
    assert mask.shape == (64, 96)
    assert (mask != expected).mean() < 0.02
    assert set(np.unique(mask)) == {0, 1}


def test_draw__outlines_where_the_overlays_of_predict_do() -> None:
    frame = np.full((200, 300, 3), 90, np.uint8)
    mask = np.zeros((200, 300), np.uint8)
    mask[120:170, 150:250] = 1
    drawn = frame.copy()
    draw_finding(drawn, mask, [])
    ours = (drawn == CONTOUR).all(2)
    theirs = (np.asarray(draw_contour(frame, mask * 255)) == CONTOUR).all(2)
    assert ours.any()
    # One is drawn on the border and one just outside of it.
    assert np.array_equal(np.argwhere(ours.any(1)).ravel()[[0, -1]], [120, 169])
    assert np.abs(np.argwhere(theirs.any(1)).ravel()[[0, -1]] - [120, 169]).max() <= 3
    assert (drawn[~ours] == 90).all()


def test_draw__writes_text_at_the_top_left_only() -> None:
    frame = np.full((240, 320, 3), 90, np.uint8)
    draw_finding(frame, None, ["120 fps, p99 8 ms", "polyp 0.97"])
    changed = (frame != 90).any(2)
    assert changed[:40].any()
    assert not changed[40:].any()
