import io
from typing import Any

import numpy as np
import pytest
import torch
from hand import Line, T, X, of, squares, traced
from torch import Tensor, nn

from polyp_lightning.common.errors import ConfigError, PruningError
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
    with pytest.raises(PruningError, match="saw no images"):
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


# At the head, z = (x, 2x) and ∂L/∂z = (3, −1)·∂L/∂y, so that s is (3, −2)·Σ x·∂L/∂y: for the loss ∂L/∂y = y − t is
# (1, 2) and (−3, 0), for the output it is y = (1, −1) and (2, 0). Σ x·∂L/∂y is −1 and −6, or 2 and 4; norms √5 and 3,
# or √2 and 2.
@pytest.mark.parametrize(
    ("signal", "normalise", "mean"),
    [
        ("loss", False, (1 + 6) / 2),
        ("loss", True, (1 / 5**0.5 + 6 / 3) / 2),
        ("output", False, (2 + 4) / 2),
        ("output", True, (2 / 2**0.5 + 4 / 2) / 2),
    ],
)
def test_taylor__signals_by_hand(signal: str, normalise: bool, mean: float) -> None:
    net, criterion = Line(), TaylorFO(signal=signal, normalise=normalise)
    graph = traced(net)
    criterion.gather(net, graph, [(X, T)], squares)
    assert of(graph, criterion.importance(net, graph)) == pytest.approx([3 * mean, 2 * mean], rel=1e-6)
    assert criterion.rides_along == (signal == "loss")


def test_taylor__random_signal_is_drawn_from_a_normal_distribution() -> None:
    # s is (3, −2)·Σ x·g with g ~ N(0, 1): of variance 9·Σ x² and 4·Σ x², with Σ x² = 2 and 4.
    net, criterion = Line(), TaylorFO("square", normalise=False, signal="random")
    graph = traced(net)
    criterion.gather(net, graph, [(X, T)] * 2000, squares)
    # 4000 draws: the estimate of a variance has the relative error √(2 / 4000) = 2.2 %.
    assert of(graph, criterion.importance(net, graph)) == pytest.approx([9 * 3, 4 * 3], rel=0.12)


def test_taylor__random_signal_is_seeded_and_needs_no_labels() -> None:
    graph = traced(Line())
    got = []
    for seed in (1, 1, 2):
        net, criterion = Line(), TaylorFO(signal="random", seed=seed)
        criterion.gather(net, graph, [(X, T * torch.nan)], squares)
        got.append(of(graph, criterion.importance(net, graph)))
    assert got[0] == got[1] != got[2]


@pytest.mark.parametrize("signal", ["output", "random"])
def test_taylor__signals_of_several_outputs(signal: str) -> None:
    class Twice(Line):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = super().forward(x)
            return {"y": y, "z": 2 * y}

    net, criterion = Twice(), TaylorFO(signal=signal, normalise=False)
    graph = traced(net)
    criterion.gather(net, graph, [(X, T)], squares)
    got = of(graph, criterion.importance(net, graph))
    if signal == "output":
        # ½‖y‖² + ½‖2y‖² is five times the first alone.
        assert got == pytest.approx([5 * 3 * 3, 5 * 3 * 2], rel=1e-6)
    else:
        assert got[0] / got[1] == pytest.approx(3 / 2)
