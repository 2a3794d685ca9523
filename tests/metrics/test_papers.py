"""The measures of papers, against the values of the package PySODMetrics 1.6.2 and pixel by pixel."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyp_lightning.metrics import papers

# Kind → what its classes Smeasure, WeightedFmeasure, MAE and Emeasure (mean and maximum of the curve) return.
KNOWN = {
    "disc": (0.59969335, 0.22423403, 0.14459368, 0.68795458, 0.95658511),
    "disc again": (0.67329515, 0.30386038, 0.14494490, 0.69463051, 0.94978329),
    "noise": (0.32542971, 0.37217026, 0.44639761, 0.49538567, 0.59223357),
    # Its S-measure is not a number: the polyp's last row and column leave regions without a pixel.
    "corner": (None, 0.00153384, 0.33380672, 0.25635755, 0.99964158),
    "empty": (0.61897191, 0.0, 0.38102809, 0.61696075, 0.99802111),
    "full": (0.22353420, 0.48064537, 0.77646580, 0.22670567, 1.00061087),
}


def case(kind: str) -> tuple[Tensor, Tensor]:
    """A map and a mask, (1, H, W)."""
    seed = list(KNOWN).index(kind)
    height, width = 37 + seed, 29 + 2 * seed
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cy, cx, radius = rng.uniform((0.3 * height, 0.3 * width, 4), (0.7 * height, 0.7 * width, height / 3))
    mask = (y - cy) ** 2 + (x - cx) ** 2 < radius * radius
    distance = ((y - cy - 2) ** 2 + (x - cx + 3) ** 2) ** 0.5
    found = 1 / (1 + np.exp(distance - radius)) + 0.2 * rng.random((height, width))
    if kind in ("empty", "full"):
        mask = np.full_like(mask, kind == "full")
    elif kind == "noise":
        mask = rng.random((height, width)) < 0.3
    elif kind == "corner":
        mask = np.zeros_like(mask)
        mask[-1, -1] = True
    return torch.from_numpy(found)[None], torch.from_numpy(mask)[None]


@pytest.mark.parametrize("kind", KNOWN)
def test_measures__equal_those_of_the_package(kind: str) -> None:
    found, mask = case(kind)
    curve = papers.e_measure(found, mask)
    ours = [
        papers.structure_measure(found, mask).item(),
        papers.weighted_f(found, mask).item(),
        papers.mean_absolute_error(found, mask).item(),
        curve.mean().item(),
        curve.max().item(),
    ]
    for value, known in zip(ours, KNOWN[kind], strict=True):
        assert np.isfinite(value) if known is None else value == pytest.approx(known, abs=2e-7)


def test_measures__one_image_at_a_time_or_all_together() -> None:
    pairs = [case("disc"), tuple(part.flip(1) for part in case("disc"))]
    found, mask = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    for measure in (papers.structure_measure, papers.weighted_f, papers.mean_absolute_error, papers.e_measure):
        torch.testing.assert_close(measure(found, mask), torch.cat([measure(*pair) for pair in pairs]))


def test_measures__a_perfect_map_is_perfect() -> None:
    _, mask = case("disc")
    for measure in (papers.structure_measure, papers.weighted_f, papers.precision, papers.recall):
        right = mask if measure in (papers.precision, papers.recall) else mask.double()
        assert measure(right, mask).item() == pytest.approx(1, abs=1e-6)
    assert papers.mean_absolute_error(mask.double(), mask).item() == 0


def loop_e_measure(levels: NDArray[np.int64], mask: NDArray[np.bool_], threshold: int) -> float:
    predicted = (levels >= threshold).astype(float)
    one, other = predicted - predicted.mean(), mask - mask.mean()
    total = 0.0
    for y, x in np.ndindex(*mask.shape):
        a, b = one[y, x], other[y, x]
        total += ((2 * a * b / (a * a + b * b) if a or b else 0.0) + 1) ** 2 / 4
    return total / (mask.size - 1)


@pytest.mark.parametrize("threshold", [1, 40, 200, 255])
def test_e_measure__pixel_by_pixel(threshold: int) -> None:
    found, mask = case("noise")
    values = found[0].numpy()
    levels = np.floor((values - values.min()) / np.ptp(values) * 255 + 0.5).astype(int)
    expected = loop_e_measure(levels, mask[0].numpy(), threshold)
    assert papers.e_measure(found, mask)[0, 255 - threshold].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("predicted", "polyp", "precision", "recall"),
    [
        ("1100", "1010", 0.5, 0.5),
        ("1111", "1000", 0.25, 1.0),
        ("0000", "0000", 1, 1),
        ("0000", "0001", 0, 0),
        ("1000", "0000", 0, 0),
    ],
)
def test_precision_and_recall__by_hand(predicted: str, polyp: str, precision: float, recall: float) -> None:
    one, other = (torch.tensor([[[digit == "1" for digit in text]]]) for text in (predicted, polyp))
    assert papers.precision(one, other).item() == precision
    assert papers.recall(one, other).item() == recall
