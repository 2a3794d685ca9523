import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polyp_lightning.errors import ConfigError, PruningError
from polyp_lightning.pruning.criteria import TaylorFO


class Three:
    """All that a mean asks of a graph."""

    size = 3


def taylor(*options: Any, **named: Any) -> TaylorFO:
    criterion = TaylorFO(*options, **named)
    criterion.reset(3)
    return criterion


def importance(criterion: TaylorFO) -> np.ndarray:
    return criterion.importance(nn.Identity(), Three())  # type: ignore[arg-type]


# Two images, two components (and the frozen one); gradient norms 2 and 0.5.
S = torch.tensor([[0.0, 3.0, -1.0], [0.0, -1.0, -2.0]])
NORM = torch.tensor([2.0, 0.5])


@pytest.mark.parametrize(
    ("reduction", "normalise", "expected"),
    [
        ("abs", False, [2.0, 1.5]),
        ("abs", True, [(1.5 + 2) / 2, (0.5 + 4) / 2]),
        ("square", False, [5.0, 2.5]),
        ("square", True, [(1.5**2 + 2**2) / 2, (0.5**2 + 4**2) / 2]),
        ("signed", False, [-1.0, 1.5]),
        ("signed", True, [-(1.5 - 2) / 2, (0.5 + 4) / 2]),
    ],
)
def test_taylor__by_hand(reduction: str, normalise: bool, expected: list[float]) -> None:
    criterion = taylor(reduction, normalise=normalise)
    criterion.update(S, NORM)
    assert importance(criterion)[1:] == pytest.approx(expected)


def test_taylor__batches_weigh_by_their_images() -> None:
    parts, whole = taylor(), taylor()
    parts.update(S[:1], NORM[:1])
    parts.update(S[1:], NORM[1:])
    whole.update(S, NORM)
    assert importance(parts) == pytest.approx(importance(whole))


@pytest.mark.parametrize("factor", [65536.0, 1 / 8])
def test_taylor__normalised_score_is_free_of_the_losss_scale(factor: float) -> None:
    plain, scaled = taylor(), taylor()
    plain.update(S, NORM)
    scaled.update(S * factor, NORM * factor)
    assert importance(scaled) == pytest.approx(importance(plain), rel=1e-6)


def test_taylor__a_batch_that_is_not_finite_is_left_out() -> None:
    criterion = taylor()
    criterion.update(S, NORM)
    expected = importance(criterion)
    criterion.update(S * torch.inf, NORM)
    criterion.update(S * torch.nan, NORM)
    assert importance(criterion) == pytest.approx(expected)


def test_taylor__an_image_without_gradient_counts_as_zero() -> None:
    criterion = taylor()
    criterion.update(torch.zeros(1, 3), torch.zeros(1))
    assert importance(criterion).tolist() == [0, 0, 0]


def test_taylor__no_images_is_an_error() -> None:
    with pytest.raises(PruningError, match="no images were scored"):
        importance(taylor())


def test_taylor__unknown_reduction_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of abs, square, signed"):
        TaylorFO("cube")  # type: ignore[arg-type]


def test_taylor__state_survives_a_safe_load() -> None:
    criterion = taylor()
    criterion.update(S, NORM)
    stored = io.BytesIO()
    torch.save(criterion.state_dict(), stored)
    stored.seek(0)
    again = TaylorFO()
    again.load_state_dict(torch.load(stored, weights_only=True))
    assert np.array_equal(importance(again), importance(criterion))
