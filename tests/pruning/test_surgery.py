import copy

import numpy as np
import pytest
import torch
from cuts import random_cut
from small_nets import Concat, Depthwise, Grouped, GroupNormed, Plain, Residual, randomise

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError


def test_remove__parameters_stay_the_same_objects() -> None:
    net = Residual()
    before = {name: id(p) for name, p in net.named_parameters()}
    graph = pruning.trace(net, (2, 3, 16, 16))
    pruning.remove(net, graph, random_cut(graph, 0.5))
    assert {name: id(p) for name, p in net.named_parameters()} == before
    assert net.stem[0].weight.shape[0] == 3


def test_remove__keeps_the_right_filters() -> None:
    net = Plain()
    weight = net.first[0].weight.detach().clone()
    graph = pruning.trace(net, (2, 3, 16, 16))
    removed = graph.nothing()
    removed[graph.axes["first.0.weight"][0][[1, 4]]] = True
    cut = pruning.remove(net, graph, removed)
    kept = [0, 2, 3, 5, 6, 7]
    assert cut["first.0.weight"][0].tolist() == kept
    assert torch.equal(net.first[0].weight, weight[kept])
    assert net.second[0].in_channels == 6
    assert net.first[1].num_features == 6


@pytest.mark.parametrize("make", [Depthwise, Grouped, GroupNormed])
def test_remove__modules_remember_their_new_sizes(make: type[torch.nn.Module]) -> None:
    net = make()
    graph = pruning.trace(net, (2, 3, 16, 16))
    pruning.remove(net, graph, random_cut(graph, 0.5))
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert tuple(module.weight.shape[:2]) == (module.out_channels, module.in_channels // module.groups)
        if isinstance(module, torch.nn.GroupNorm):
            assert module.num_channels == len(module.weight)
            assert module.num_channels // module.num_groups == 3


def test_remove__channels_last_is_kept() -> None:
    net = Concat().to(memory_format=torch.channels_last)
    graph = pruning.trace(net, (2, 3, 16, 16))
    pruning.remove(net, graph, random_cut(graph, 0.3))
    assert net.merge[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not net.merge[0].weight.is_contiguous()


def test_remove__frozen_parameters_stay_frozen() -> None:
    net = Plain()
    net.first.requires_grad_(False)
    graph = pruning.trace(net, (2, 3, 16, 16))
    pruning.remove(net, graph, random_cut(graph, 0.3))
    assert not net.first[0].weight.requires_grad
    assert net.second[0].weight.requires_grad


def test_remove__a_layer_is_never_emptied() -> None:
    net = Plain()
    graph = pruning.trace(net, (2, 3, 16, 16))
    removed = graph.nothing()
    removed[graph.axes["first.0.weight"][0]] = True
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(PruningError, match=r"no channel in .*first\.0\.weight"):
        pruning.remove(net, graph, removed)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_remove__a_foreign_selection_is_refused() -> None:
    net = Plain()
    graph = pruning.trace(net, (2, 3, 16, 16))
    with pytest.raises(PruningError, match="removed has shape"):
        pruning.remove(net, graph, np.zeros(3, bool))


def test_mask__leaves_shapes_and_consumers_alone() -> None:
    net = randomise(Plain())
    consumer = net.second[0].weight.detach().clone()
    graph = pruning.trace(net, (2, 3, 16, 16))
    removed = graph.nothing()
    removed[graph.axes["first.0.weight"][0][0]] = True
    pruning.mask(net, graph, removed)
    assert torch.equal(net.second[0].weight, consumer)
    assert net.first[1].weight[0] == 0
    assert net.first[1].bias[0] == 0


def test_assert_exact__a_wrong_graph_is_caught() -> None:
    # Swap the consumer's labels of two filters: the wrong input channel would be removed.
    torch.manual_seed(0)
    net = randomise(Plain())
    graph = pruning.trace(net, (2, 3, 16, 16))
    swapped = graph.axes["second.0.weight"][1].copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    output, _, *rest = graph.axes["second.0.weight"]
    graph.axes["second.0.weight"] = (output, swapped, *rest)
    removed = graph.nothing()
    removed[graph.axes["first.0.weight"][0][0]] = True
    with pytest.raises(PruningError, match="not the same as masking"):
        pruning.assert_exact(net, graph, removed, torch.randn(2, 3, 16, 16))
