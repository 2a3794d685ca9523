import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polyp_lightning import pruning
from polyp_lightning.study.loss_changes import (
    correlate,
    draw_components,
    grow_sets,
    measure_changes,
    rank_components,
    remove_each,
    remove_together,
    summarise_sets,
)


class Line(nn.Module):
    """y = 3·x − 2x at each pixel: two components."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False)
        self.first.weight.data = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
        self.head.weight.data = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x))


def half_squares(y: Tensor, t: Tensor) -> Tensor:
    return (y - t).square().sum() / 2


def wide(widths: tuple[int, ...] = (4, 3)) -> pruning.ChannelGraph:
    first, second = widths
    net = nn.Sequential(
        nn.Conv2d(1, first, 1), nn.ReLU(), nn.Conv2d(first, second, 1), nn.ReLU(), nn.Conv2d(second, 1, 1)
    )
    return pruning.trace(net, (2, 1, 4, 4))


def test_measured_changes__by_hand() -> None:
    # With both, y = x: losses ½(1² + 2²) = 2.5 and ½·3² = 4.5. Without the first −2x: 14.5 and 40.5; without the second
    # 3x: 4.5 and 0.5; without both 0: 4.5 and 12.5.
    net = Line()
    graph = pruning.trace(net, (2, 1, 4, 4))
    x = torch.tensor([[1.0, -1.0], [2.0, 0.0]]).view(2, 1, 1, 2)
    t = torch.tensor([[0.0, -3.0], [5.0, 0.0]]).view(2, 1, 1, 2)
    one, two = graph.axes["first.weight"][0]
    removals = [*remove_each(graph, np.array([one, two])), remove_together(graph, np.array([one, two]))]
    assert measure_changes(net, graph, removals, x, t, half_squares).tolist() == [[12, 36], [2, -4], [2, 8]]


def test_sample__is_seeded_and_never_the_frozen_component() -> None:
    graph = wide((40, 30))
    first, again, other = (draw_components(graph, 20, seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() == sorted(set(first.tolist()))
    assert first.tolist() != other.tolist()
    assert draw_components(graph, 1000, 0).tolist() == list(range(1, 71))


def test_order__spares_the_best_of_each_layer() -> None:
    graph = wide()
    first, second = (group.components for group in graph.groups)
    importance = np.zeros(graph.size)
    importance[first] = [5, 2, 9, 1]
    importance[second] = [0.3, 0.1, 0.2]
    assert rank_components(graph, importance).tolist() == [second[1], second[2], first[3], first[1], first[0]]


def test_growing_sets__hold_the_least_important() -> None:
    graph = wide()
    importance = np.arange(graph.size, dtype=float)
    sets = grow_sets(graph, importance, [0.0, 0.4, 1.0])
    assert [len(components) for components in sets] == [0, 2, 5]
    assert sets[1].tolist() == rank_components(graph, importance)[:2].tolist()


def test_set_points__by_hand() -> None:
    # One multiplication a pixel for each pair of widths: (1·4 + 4·3 + 3·1)·16; without one of the four (3 + 9 + 3)·16.
    graph = wide()
    gone = graph.groups[0].components[:1]
    (point,) = summarise_sets(graph, [gone], np.full(graph.size, 0.25), np.array([[1.0, -0.5]]))
    assert (point.components, point.measured, point.predicted) == (1, 0.25, 0.25)
    assert point.macs == pytest.approx(4 / 19)


def test_correlation__by_hand() -> None:
    # Ranks 1 2 3 4 against 2 1 3 4: 1 − 6·2 / (4·15). Sizes rank 4 1 2 3: 1 − 6·(9 + 1 + 1 + 1) / 60.
    rho = correlate(np.array([1.0, 2.0, 3.0, 4.0]), np.array([[-1.0, -1.0], [-9.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    assert rho.signed == pytest.approx(spearman([1, 2, 3, 4], [2, 1, 3, 4]))
    # Means of sizes are 1, 5, 2 and 3.
    assert rho.absolute == pytest.approx(spearman([1, 2, 3, 4], [1, 4, 2, 3]))


def spearman(first: list[int], second: list[int]) -> float:
    n = len(first)
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / (n * (n**2 - 1))


def test_correlation__no_number_for_a_criterion_that_says_nothing() -> None:
    assert np.isnan(correlate(np.ones(3), np.arange(3.0)[:, None]).signed)
