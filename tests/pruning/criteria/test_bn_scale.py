import pytest
from hand import Line, Stream, fill, of, traced
from torch import nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.criteria.bn_scale import BatchNormScale


def test_bn_scale__by_hand() -> None:
    # Two norms for each component: |−1| and |0.5|, |4| and |−2|.
    net = Stream(norm=True)
    fill(net.first_norm.weight, [-1, 4])
    fill(net.second_norm.weight, [0.5, -2])
    graph = traced(net)
    assert of(graph, BatchNormScale().importance(net, graph)) == pytest.approx([0.75, 3.0])


def test_bn_scale__layers_without_norm_come_last() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    fill(net[1].weight, [0.5, 7])
    graph = traced(net)
    importance = BatchNormScale().importance(net, graph)
    assert of(graph, importance, "0") == pytest.approx([0.5, 7])
    assert min(of(graph, importance, "2")) > 7


def test_bn_scale__a_norm_without_scale_is_not_seen() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, affine=False), nn.Conv2d(2, 1, 1))
    with pytest.raises(PruningError, match="'bn_scale' sees no component"):
        BatchNormScale().importance(net, traced(net))


def test_bn_scale__no_norm_is_an_error() -> None:
    with pytest.raises(PruningError, match="'bn_scale' sees no component"):
        BatchNormScale().importance(Line(), traced(Line()))
