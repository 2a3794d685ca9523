import copy

import numpy as np
import pytest
import torch
from cuts import random_cut
from small_nets import Concat, Depthwise, Grouped, GroupNormed, Plain, Residual, randomise

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.surgery import resize


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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_resize__while_a_graph_is_alive(layout: torch.memory_format, dtype: torch.dtype) -> None:
    conv = torch.nn.Conv2d(4, 6, 3).to(dtype=dtype, memory_format=layout)
    weight, seen = conv.weight, []
    weight.register_hook(lambda gradient: seen.append(("hook", gradient.shape)))
    weight.register_post_accumulate_grad_hook(lambda p: seen.append(("accumulated", p.grad.shape)))
    alive = conv(torch.ones(1, 4, 5, 5, dtype=dtype)).sum()
    alive.backward(retain_graph=True)
    for channels in (3, 2):
        seen.clear()
        resize(weight, weight.data[:, :channels])
        assert (conv.weight is weight, weight.dtype, weight.requires_grad, weight.grad) == (True, dtype, True, None)
        assert weight.is_contiguous(memory_format=layout)
        conv(torch.ones(1, channels, 5, 5, dtype=dtype)).sum().backward()
        assert seen == [(kind, (6, channels, 3, 3)) for kind in ("hook", "accumulated")]
        assert (weight.grad == 9).all()
    assert alive.grad_fn is not None


def test_rebuild__while_a_graph_is_alive() -> None:
    net, dense = Plain(), Plain()
    graph = pruning.trace(net, (2, 3, 16, 16))
    pruning.remove(net, graph, random_cut(graph, 0.5))
    alive = dense(torch.randn(2, 3, 16, 16)).sum()
    pruning.rebuild(dense, pruning.describe(net))
    dense(torch.randn(2, 3, 16, 16)).sum().backward()
    assert alive.grad_fn is not None
    assert all(p.grad is not None and p.grad.shape == p.shape for p in dense.parameters())


def test_remove__memory_format_of_volumes_is_kept() -> None:
    weight = torch.nn.Conv3d(4, 4, 3).to(memory_format=torch.channels_last_3d).weight
    resize(weight, weight.data[:2])
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not weight.is_contiguous()


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
