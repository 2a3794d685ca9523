import pytest
from hand import fill, of, traced
from small_nets import Concat
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.pruning.criteria.uniform import UniformWidth


def test_uniform__by_hand() -> None:
    # Magnitudes 4, 1, 9 and, far larger, 100, 50: the first's ranks are thirds, the second's halves.
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    fill(net[0].weight, [-4, 1, 9])
    fill(net[2].weight, [50, 0, -50, 25, 25, 0])
    graph = traced(net)
    importance = UniformWidth().importance(net, graph)
    assert of(graph, importance, "0") == pytest.approx([2 / 3, 1 / 3, 1])
    assert of(graph, importance, "2") == pytest.approx([1, 1 / 2])


def test_uniform__every_layer_keeps_the_same_share() -> None:
    net = Concat(times=10)
    graph = pruning.trace(net, (2, 3, 16, 16))
    removed = pruning.select(graph, UniformWidth().importance(net, graph), target=0.4)
    shares = [removed[group.components].mean() for group in graph.groups]
    assert len(shares) == 3
    assert min(shares) > 0.2
    assert max(shares) - min(shares) <= 0.05
