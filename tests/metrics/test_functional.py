import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from polyp_lightning.metrics import binarise, hd95, per_image_dice, per_image_iou, pranet_dice

Mask = NDArray[np.bool_]


def loop_counts(p: Mask, t: Mask) -> tuple[int, int, int]:
    hit = false = missed = 0
    for y, x in np.ndindex(*p.shape):
        hit += int(p[y, x] and t[y, x])
        false += int(p[y, x] and not t[y, x])
        missed += int(t[y, x] and not p[y, x])
    return hit, false, missed


def loop_dice(p: Mask, t: Mask) -> float:
    hit, false, missed = loop_counts(p, t)
    return 1.0 if hit + false + missed == 0 else 2 * hit / (2 * hit + false + missed)


def loop_iou(p: Mask, t: Mask) -> float:
    hit, false, missed = loop_counts(p, t)
    return 1.0 if hit + false + missed == 0 else hit / (hit + false + missed)


def loop_pranet_dice(probability: NDArray[np.float64], t: Mask) -> float:
    low, high = probability.min(), probability.max()
    stretched = (probability - low) / (high - low) if high > low else np.zeros_like(probability)
    stored = np.floor(stretched * 255 + 0.5)
    scores = []
    for threshold in range(255, -1, -1):
        predicted = stored >= threshold
        hit = np.sum(predicted & t)
        scores.append(0.0 if hit == 0 else 2 * hit / (predicted.sum() + t.sum()))
    return float(np.mean(scores))


def border(mask: Mask) -> list[tuple[int, int]]:
    padded = np.pad(mask, 1)
    return [
        (y, x)
        for y, x in np.argwhere(mask)
        if not all(padded[y + 1 + dy, x + 1 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    ]


def loop_hd95(p: Mask, t: Mask) -> float:
    def directed(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> float:
        return float(np.percentile([min(np.hypot(y - v, x - u) for v, u in b) for y, x in a], 95))

    return max(directed(border(p), border(t)), directed(border(t), border(p)))


def blob(rng: np.random.Generator, height: int, width: int) -> Mask:
    y, x = np.mgrid[:height, :width]
    cy, cx, ry, rx = rng.uniform((0, 0, 2, 2), (height, width, height / 2, width / 2))
    return np.asarray(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)


def masks(seed: int, density: float) -> tuple[Mask, Mask]:
    rng = np.random.default_rng(seed)
    p, t = (rng.random((2, 4, 13, 9)) < density).astype(bool)
    return p, t


@pytest.mark.parametrize("density", [0.0, 0.01, 0.3, 1.0])
def test_per_image_dice_and_iou__equal_a_loop_over_pixels(density: float) -> None:
    p, t = masks(3, density)
    p[0], t[1] = False, False
    dice = per_image_dice(torch.from_numpy(p), torch.from_numpy(t)).numpy()
    iou = per_image_iou(torch.from_numpy(p), torch.from_numpy(t)).numpy()
    np.testing.assert_allclose(dice, [loop_dice(a, b) for a, b in zip(p, t, strict=True)], rtol=1e-6)
    np.testing.assert_allclose(iou, [loop_iou(a, b) for a, b in zip(p, t, strict=True)], rtol=1e-6)


@settings(deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3), seed=st.integers(0, 2**32), densities=st.tuples(*[st.floats(0, 1)] * 2)
)
def test_per_image_dice_and_iou__equal_a_loop_for_any_masks(
    shape: tuple[int, int, int], seed: int, densities: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = (rng.random(shape) < density for density in densities)
    for ours, loop in ((per_image_dice, loop_dice), (per_image_iou, loop_iou)):
        found = ours(torch.from_numpy(predicted), torch.from_numpy(true)).numpy()
        assert ((found >= 0) & (found <= 1)).all()
        np.testing.assert_allclose(found, [loop(p, t) for p, t in zip(predicted, true, strict=True)], rtol=1e-6)


def test_per_image_dice__degenerate_pairs() -> None:
    full, empty = torch.ones(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)
    for function in (per_image_dice, per_image_iou):
        assert function(empty, empty).item() == 1
        assert function(full, full).item() == 1
        assert function(full, empty).item() == function(empty, full).item() == 0


def test_binarise__probabilities_and_masks() -> None:
    assert binarise(torch.tensor([0.0, 0.5, 0.5001, 1.0])).tolist() == [False, False, True, True]
    assert binarise(torch.tensor([0, 1], dtype=torch.uint8)).tolist() == [False, True]
    assert binarise(torch.tensor([False, True])).tolist() == [False, True]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), coarse=st.booleans(), density=st.sampled_from([0.0, 0.1, 1.0]))
def test_pranet_dice__equals_a_loop_over_thresholds(seed: int, coarse: bool, density: float) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.random((3, 11, 7)) ** 3
    if coarse:  # values that tie with thresholds
        probability = rng.integers(0, 256, (3, 11, 7)) / 255
    target = rng.random((3, 11, 7)) < density
    ours = pranet_dice(torch.from_numpy(probability), torch.from_numpy(target)).numpy()
    expected = [loop_pranet_dice(p, t) for p, t in zip(probability, target, strict=True)]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


def test_pranet_dice__degenerate_maps() -> None:
    truth = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert pranet_dice(torch.rand(1, 4, 4), truth).item() == 0
    truth[0, 0, 0] = True
    constant = pranet_dice(torch.full((1, 4, 4), 0.7), truth)
    assert constant.item() == pytest.approx(2 / 17 / 256)
    perfect = pranet_dice(truth.float(), truth)
    assert perfect.item() == pytest.approx((255 + 2 / 17) / 256)


def test_pranet_dice__does_not_depend_on_the_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(2, 32, 32, generator=generator, dtype=torch.float64)
    truth = torch.rand(2, 32, 32, generator=generator) > 0.8
    torch.testing.assert_close(pranet_dice(probability / 4 + 0.25, truth), pranet_dice(probability, truth))


def test_hd95__equals_a_loop_over_borders() -> None:
    rng = np.random.default_rng(1)
    checked = 0
    while checked < 12:
        p, t = blob(rng, 31, 24), blob(rng, 31, 24)
        if p.any() and t.any():
            checked += 1
            assert hd95(torch.from_numpy(p), torch.from_numpy(t)) == pytest.approx(loop_hd95(p, t), abs=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=st.tuples(*[st.integers(1, 9)] * 2), seed=st.integers(0, 2**32), density=st.floats(0.05, 1))
def test_hd95__equals_a_loop_for_any_masks(shape: tuple[int, int], seed: int, density: float) -> None:
    p, t = np.random.default_rng(seed).random((2, *shape)) < density
    p[-1, 0] = t[0, -1] = True
    assert hd95(torch.from_numpy(p), torch.from_numpy(t)) == pytest.approx(loop_hd95(p, t), abs=1e-4)


def test_hd95__degenerate_pairs() -> None:
    p, t = np.zeros((2, 9, 12), dtype=bool)
    p[0, 0] = t[3, 4] = True
    assert hd95(torch.from_numpy(p), torch.from_numpy(t)) == pytest.approx(5)
    assert hd95(torch.from_numpy(p), torch.from_numpy(p)) == 0
    full = np.ones((9, 12), dtype=bool)
    assert hd95(torch.from_numpy(full), torch.from_numpy(p)) == pytest.approx(loop_hd95(full, p), abs=1e-4)


def test_pranet_dice__accumulates_no_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA, deterministic algorithms refuse the cumulative sum of floats, and so would `test`."""
    summed, cumsum = [], torch.Tensor.cumsum

    def spy(tensor: torch.Tensor, *args: object) -> torch.Tensor:
        summed.append(tensor.is_floating_point())
        return cumsum(tensor, *args)

    monkeypatch.setattr(torch.Tensor, "cumsum", spy)
    pranet_dice(torch.rand(2, 8, 8), torch.rand(2, 8, 8) > 0.5)
    assert summed
    assert not any(summed)
