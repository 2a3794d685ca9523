"""Layer norms, where no exact removal exists: only asked for by name, said so, and nothing else is inexact."""

import pytest
import torch
from hostile_cuts import SHAPE, images, random_cut
from hostile_nets import Net, between, conv, on_tokens
from small_nets import randomise
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError


def normed() -> nn.Module:
    torch.manual_seed(0)
    net = between(
        on_tokens(lambda n, x: n.mix(n.norm(x)) + x), norm=lambda: nn.LayerNorm(8), mix=lambda: nn.Linear(8, 8)
    )()
    return randomise(net)


def test_trace__layer_norm_is_frozen_unless_asked_for() -> None:
    graph = pruning.trace(normed(), SHAPE)
    assert (graph.axes["stem.weight"][0] == 0).all()
    assert not graph.inexact


def test_trace__layer_norm_by_name() -> None:
    net = normed()
    graph = pruning.trace(net, SHAPE, inexact=("layer_norm",))
    assert graph.inexact == {"norm"}
    assert (graph.axes["stem.weight"][0] == graph.axes["norm.weight"][0]).all()
    removed = random_cut(graph, 0.4, 0)
    assert pruning.removal_error(net, graph, removed, images()) > 1e-3
    assert pruning.removal_error(net, graph, removed, images(), fewer_in_norms=True) < 1e-12
    with pytest.raises(PruningError, match=r"inexact=\('layer_norm',\).*norm"):
        pruning.assert_exact(net, graph, removed, images())
    pruning.remove(net, graph, removed)
    assert net.norm.normalized_shape == (len(net.norm.weight),) == (net.stem.out_channels,)
    again = pruning.rebuild(normed(), pruning.describe(net))
    again.load_state_dict(net.state_dict())
    x = images().float()
    assert torch.equal(again(x), net(x))


def test_removal_error__of_several_outputs() -> None:
    net = Net(lambda n, x: {"a": n.head(n.stem(x)), "b": [n.stem(x).mean()]}, stem=conv(3, 8), head=conv(8, 1))
    graph = pruning.trace(net, SHAPE)
    assert pruning.removal_error(net, graph, graph.nothing(), images()) == 0
