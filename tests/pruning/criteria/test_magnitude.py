import pytest
from hand import Line, Stream, fill, of, traced
from torch import nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.criteria import build_criterion


@pytest.mark.parametrize(
    ("name", "expected"),
    # Filters (3, 4), (0, −1) and (2, −2); then relative to their mean.
    [("magnitude_l1", [7, 1, 4]), ("magnitude_l2", [5, 1, 8**0.5])],
)
def test_magnitude__by_hand(name: str, expected: list[float]) -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 1, 1))
    fill(net[0].weight, [3, 4, 0, -1, 2, -2])
    graph = traced(net, 2)
    mean = sum(expected) / 3
    got = of(graph, build_criterion(name).importance(net, graph), "0")
    assert got == pytest.approx([value / mean for value in expected])


@pytest.mark.parametrize("name", ["magnitude_l1", "magnitude_l2"])
def test_magnitude__coupled_layers_are_averaged(name: str) -> None:
    # |1| and |2| make the first, |3| and |−6| the second: means 1.5 and 4.5, whose mean is 3.
    net = Stream()
    graph = traced(net)
    assert of(graph, build_criterion(name).importance(net, graph)) == pytest.approx([0.5, 1.5])


def test_magnitude__layers_are_compared_by_their_means() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    fill(net[0].weight, [1, 3])
    fill(net[2].weight, [50, 50, -100, 200])
    graph = traced(net)
    importance = build_criterion("magnitude_l1").importance(net, graph)
    assert of(graph, importance, "0") == pytest.approx([0.5, 1.5])
    assert of(graph, importance, "2") == pytest.approx([0.5, 1.5])


def test_magnitude__a_layer_of_zeros_is_unimportant() -> None:
    net = Line()
    fill(net.first.weight, [0, 0])
    graph = traced(net)
    assert of(graph, build_criterion("magnitude_l1").importance(net, graph)) == [0, 0]


def test_magnitude__nothing_to_see_is_an_error() -> None:
    net = nn.Conv2d(1, 1, 1)
    with pytest.raises(PruningError, match="'magnitude_l1' sees no component"):
        build_criterion("magnitude_l1").importance(net, traced(net))
