import math
from pathlib import Path

import cv2
import marks
import numpy as np
import pytest
from clean_video import HEIGHT, RATE, SECONDS, WIDTH, move_camera, write_clean_video
from marks import ImageMark, score_images, share_interval, sum_up
from small_videos import read_video

from polyp_lightning.data.dataset import Dataset
from polyp_lightning.data.sets import load_dataset
from polyp_lightning.deploy.bundle import Bundle


@pytest.fixture
def phantoms(tmp_path: Path) -> Dataset:
    return load_dataset("phantom", tmp_path, None, 70)


def red(frames: np.ndarray) -> np.ndarray:
    """A network that finds polyps by their colour."""
    return (frames[:, None, :, :, 0].astype(np.float32) - frames[:, None, :, :, 1] + 60) / 255


def test_score_images__equal_a_loop(phantoms: Dataset) -> None:
    bundle = Bundle(Path("a.onnx"), {"image_size": 64, "threshold": 0.5, "alarm_threshold": 0.55})
    scored = list(score_images("a", "none", red, bundle, phantoms))
    ((name, images),) = phantoms.tests.items()
    assert [(mark.test_set, mark.name) for mark in scored] == [(name, image[1]) for image in images]
    for mark, image in zip(scored, images, strict=True):
        pixels, mask = phantoms.read(image)
        map_ = red(cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)[None])[0, 0].astype(np.float64)
        logit = cv2.resize(np.log(map_ / (1 - map_)), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        found, truth = logit > 0, mask > 0
        total = found.sum() + truth.sum()
        assert mark.dice == pytest.approx(2 * (found & truth).sum() / total if total else 1.0, abs=2e-3)
        assert mark.score == pytest.approx(np.sort(map_.ravel())[-4], abs=1e-6)
        small = cv2.resize(mask * np.uint8(255), (64, 64), interpolation=cv2.INTER_AREA) > 127
        count, labels = cv2.connectedComponents(small.astype(np.uint8), connectivity=8)
        hit = [bool((map_[labels == number] > 0.5).any()) for number in range(1, count)]
        assert (mark.polyps, mark.found) == (count - 1, sum(hit) if mark.score > 0.55 else 0)
    assert 0 < sum(mark.found for mark in scored) <= sum(mark.polyps for mark in scored)


def test_sum_up__counts_alarms_and_polyps_apart() -> None:
    rng = np.random.default_rng(0)
    drawn = enumerate(rng.random((30, 2)).tolist())
    images = [ImageMark("a", "x", "s", f"{n}", dice, score, n % 3, min(1, n % 3)) for n, (dice, score) in drawn]
    (one,) = sum_up(images, 0.5)
    shown, clean = [i for i in images if i.polyps], [i for i in images if not i.polyps]
    assert (one.images, one.polyp_frames, one.clean_frames) == (30, 20, 10)
    assert one.dice == pytest.approx(np.mean([i.dice for i in shown]))
    assert one.dice_low < one.dice < one.dice_high
    # A bootstrap's interval is near that of the normal approximation.
    error = 1.96 * np.std([i.dice for i in shown]) / math.sqrt(20)
    assert [one.dice - one.dice_low, one.dice_high - one.dice] == pytest.approx([error, error], rel=0.15)
    assert one.found_frames == sum(i.score > 0.5 for i in shown)
    assert one.false_alarms == sum(i.score > 0.5 for i in clean)
    assert (one.polyps, one.found_polyps) == (sum(i.polyps for i in images), 20)
    assert math.isnan(sum_up(clean, 0.5)[0].dice)
    assert math.isnan(sum_up(shown, 0.5)[0].false_high)


def test_share_interval__is_wilsons() -> None:
    for count, of in ((0, 32), (3, 32), (110, 120)):
        share, z = count / of, 1.959964
        middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
        expected = [(middle + sign * half) / (1 + z * z / of) for sign in (-1, 1)]
        assert share_interval(count, of) == pytest.approx(expected, abs=1e-6)


def test_choose_shown__takes_the_worst_and_some_at_random() -> None:
    images = [ImageMark("a", "x", "s", f"{n}", 0.1 * n, 0.5, 1, 0) for n in range(8)]
    shown = marks.choose_shown(images, 3)
    assert [mark.name for how, mark in shown if how == "worst"] == ["0", "1", "2"]
    assert len({mark.name for how, mark in shown if how == "random"}) == 3
    clean = [ImageMark("a", "x", "s", f"{n}", float(n > 4), 0.1 * n, 0, 0) for n in range(8)]
    assert [mark.name for _, mark in marks.choose_shown(clean, 3)[:3]] == ["4", "3", "2"]


def test_move_camera__moves_slowly_and_shows_only_the_frame() -> None:
    frame = np.random.default_rng(0).integers(1, 256, (288, 384, 3)).astype(np.uint8)
    frame = cv2.GaussianBlur(frame, (0, 0), 6)
    steps = [move_camera(frame, step, 75, 0.0) for step in (0, 1, 20, 75)]
    assert all(one.shape == (HEIGHT, WIDTH, 3) for one in steps)
    change = [np.abs(one.astype(int) - steps[0]).mean() for one in steps]
    assert 0 < change[1] < 0.5 * change[2]
    assert change[3] == 0


def test_write_clean_video__shows_each_frame_for_its_time(tmp_path: Path) -> None:
    frames = [np.full((96, 128, 3), level, np.uint8) for level in (60, 180)]
    shown, facts = read_video(write_clean_video(frames, tmp_path / "a.mp4"))
    assert (len(shown), facts["rate"]) == (2 * RATE * SECONDS, RATE)
    levels = np.array([one.mean() for one in shown])
    assert (np.abs(levels[: RATE * SECONDS] - 60) < 8).all()
    assert (np.abs(levels[RATE * SECONDS :] - 180) < 8).all()
