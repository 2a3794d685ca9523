import pytest
from hand import fill, of, traced
from torch import nn

from polyp_lightning.pruning.criteria.fpgm import FPGM


def test_fpgm__by_hand() -> None:
    # Points (0, 0), (3, 4) and (6, 8): distances 5 + 10, 5 + 5 and 10 + 5: the largest filter
    # is not more important than the smallest.
    net = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 1, 1))
    fill(net[0].weight, [0, 0, 3, 4, 6, 8])
    graph = traced(net, 2)
    mean = (15 + 10 + 15) / 3
    assert of(graph, FPGM().importance(net, graph), "0") == pytest.approx([15 / mean, 10 / mean, 15 / mean])


def test_fpgm__twins_are_unimportant() -> None:
    # Points 1, 1, 9, 20: sums 0+8+19, 0+8+19, 8+8+11, 19+19+11.
    net = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 1, 1))
    fill(net[0].weight, [1, 1, 9, 20])
    graph = traced(net)
    mean = (27 + 27 + 27 + 49) / 4
    expected = [27 / mean] * 3 + [49 / mean]
    assert of(graph, FPGM().importance(net, graph), "0") == pytest.approx(expected)
