import math

import numpy as np
import pytest
import torch

from polyp_lightning.common.frame_rule import frame_score
from polyp_lightning.metrics import (
    FalsePositiveFrameRate,
    FrameSensitivity,
    PolypSensitivity,
    alarm_metrics,
    area_under_roc,
    choose_threshold,
    frame_scores,
    roc,
)

SIDE = 50  # of maps: 2500 pixels, of which the highest 2 decide


def maps(count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and masks of squares: some found, some missed, some where none is, and specks of one pixel."""
    rng = np.random.default_rng(3)
    probability = rng.uniform(0, 0.3, (count, SIDE, SIDE)).astype(np.float32)
    mask = np.zeros((count, SIDE, SIDE), np.uint8)
    for image in range(count):
        for row in (4, 28)[: image % 3]:
            column = int(rng.integers(2, 35))
            mask[image, row : row + 9, column : column + 9] = 1
            if rng.random() < 0.6:
                probability[image, row + 2 : row + 7, column + 2 : column + 7] = rng.uniform(0.4, 0.95)
        kind = rng.integers(0, 3)
        probability[image, 45, 45 : 45 + kind] = 0.8
    return torch.from_numpy(probability), torch.from_numpy(mask)


def flood(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The connected components (8 neighbours), by walking."""
    left, found = {(int(r), int(c)) for r, c in np.argwhere(mask)}, []
    while left:
        walk, component = [left.pop()], set()
        while walk:
            r, c = walk.pop()
            component.add((r, c))
            near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            walk += near
        found.append(component)
    return found


def loop(threshold: float) -> dict[str, float]:
    false, right, polyps = [], [], []
    for probability, mask in zip(*(t.numpy() for t in maps()), strict=True):
        alarm = sum(p > threshold for p in probability.ravel().tolist()) >= 2
        (right if mask.any() else false).append(alarm)
        drawn = probability > min(threshold, 0.5)
        polyps += [alarm and any(drawn[pixel] for pixel in one) for one in flood(mask)]
    means = (float(np.mean(one)) for one in (false, right, polyps))
    return dict(zip(("false_positive_rate", "frame_sensitivity", "polyp_sensitivity"), means, strict=True))


@pytest.mark.parametrize("threshold", [0.35, 0.5, 0.7])
def test_alarm_metrics__equal_loops(threshold: float) -> None:
    collection, expected = alarm_metrics(threshold), loop(threshold)
    collection.update(*maps())
    found = {name: value.item() for name, value in collection.compute().items()}
    assert found == pytest.approx(expected)
    assert 0 < expected["false_positive_rate"] < 1 > expected["polyp_sensitivity"] > 0


def test_alarm_metrics__are_nan_without_frames_of_a_kind() -> None:
    nothing, everything = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    for kind, mask in ((FalsePositiveFrameRate, everything), (FrameSensitivity, nothing), (PolypSensitivity, nothing)):
        metric = kind()
        metric.update(everything, mask)
        assert math.isnan(metric.compute().item())


def test_polyps__touching_at_a_corner_are_one() -> None:
    mask = torch.zeros(1, 40, 40, dtype=torch.uint8)
    mask[0, 5:10, 5:10] = mask[0, 10:15, 10:15] = 1
    metric = PolypSensitivity()
    metric.update((mask == 1).float(), mask)
    assert metric.count == 1


def test_frame_scores__equal_those_of_numpy() -> None:
    probability, _ = maps()
    np.testing.assert_array_equal(frame_scores(probability), [frame_score(one.numpy()) for one in probability])
    expected = [sorted(one.ravel().tolist())[-2] for one in probability.numpy()]
    np.testing.assert_allclose(frame_scores(probability), expected)


def labelled(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    polyps = rng.random(count) < 0.6
    return np.round(rng.normal(0.4 + 0.2 * polyps, 0.2), 1).clip(0, 0.99), polyps


def test_roc__equals_counting_at_each_threshold() -> None:
    scores, polyps = labelled()
    for threshold, false_alarms, sensitivity in zip(*roc(scores, polyps), strict=True):
        assert false_alarms == np.mean([s >= threshold for s, p in zip(scores, polyps, strict=True) if not p])
        assert sensitivity == np.mean([s >= threshold for s, p in zip(scores, polyps, strict=True) if p])
    assert (roc(scores, polyps)[1][0], roc(scores, polyps)[2][-1]) == (0, 1)
    assert np.isnan(roc(scores[polyps], polyps[polyps])[1]).all()


def test_area_under_roc__is_the_probability_of_the_right_order() -> None:
    scores, polyps = labelled()
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[polyps] for b in scores[~polyps]]
    assert area_under_roc(scores, polyps) == pytest.approx(np.mean(pairs))
    assert 0.6 < np.mean(pairs) < 0.95


@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_choose_threshold__has_the_fewest_false_alarms_of_all(wanted: float) -> None:
    scores, polyps = labelled()
    chosen = choose_threshold(scores, polyps, wanted)
    assert (scores[polyps] > chosen).mean() >= wanted
    enough = [t for t in [*scores - 1e-9, 0.0] if (scores[polyps] > t).mean() >= wanted]
    assert (scores[~polyps] > chosen).sum() == min((scores[~polyps] > t).sum() for t in enough)
    assert np.abs(scores - chosen).min() > 0.01


def test_choose_threshold__nine_of_ten_are_nine() -> None:
    assert choose_threshold(np.arange(1, 11) / 20, np.ones(10, bool), 0.9) == pytest.approx(0.075)
    with pytest.raises(ValueError, match="no frame shows a polyp"):
        choose_threshold([0.1], [False])
