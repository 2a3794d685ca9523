"""Whatever a network does: a cut is exact, or what it would break is frozen, or the error says why."""

import copy

import numpy as np
import pytest
import torch
from hostile_cuts import SHAPE, Auxiliary, images, random_cut
from hostile_nets import NETS, Net, between, conv, on_tokens
from small_nets import randomise
from torch import Tensor, nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning import mask, removal_error, remove, trace
from polyp_lightning.pruning.criteria.taylor_hooks import ConsumerChanges
from polyp_lightning.pruning.graph import ChannelGraph, Removed


def assert_cut_is_masking(net: nn.Module, graph: ChannelGraph, removed: Removed) -> nn.Module:
    masked, pruned = copy.deepcopy(net), copy.deepcopy(net)
    mask(masked, graph, removed)
    remove(pruned, graph, removed)
    with torch.no_grad():
        torch.testing.assert_close(pruned(images()), masked(images()), rtol=1e-9, atol=1e-9)
    return pruned


def assert_unread_is_not_felt(net: nn.Module, graph: ChannelGraph) -> None:
    """Without all that no layer reads, the output is the same bit for bit: its score may be 0 unseen."""
    masked = copy.deepcopy(net)
    mask(masked, graph, graph.unread())
    with torch.no_grad():
        assert torch.equal(masked(images()), net(images()))


@pytest.mark.parametrize("name", NETS)
def test_remove__is_masking_whatever_the_network_does(name: str) -> None:
    make, least = NETS[name]
    torch.manual_seed(0)
    net = randomise(make()).double().eval()
    graph = trace(net, SHAPE)
    assert graph.size - 1 >= least
    assert_unread_is_not_felt(net, graph)
    for share, seed in ((0.1, 0), (0.3, 1), (0.6, 2), (0.9, 3)):
        pruned = assert_cut_is_masking(net, graph, random_cut(graph, share, seed))
    again = trace(pruned, SHAPE)
    assert_cut_is_masking(pruned, again, random_cut(again, 0.4, 4))
    pruned.train()(images()).sum().backward()


def test_unread__is_what_no_layer_reads_and_scores_nothing() -> None:
    net = randomise(NETS["features left out"][0]()).double()
    graph = trace(net, SHAPE)
    assert set(np.flatnonzero(graph.unread())) == set(graph.axes["last.0.weight"][0])
    got: list[Tensor] = []
    with ConsumerChanges(net, graph, lambda s, _: got.append(s)):
        net(images()).square().sum().backward()
    # What feeds it is read by a layer, from which no gradient comes back.
    idle = graph.unread()
    idle[graph.axes["deep.weight"][0]] = True
    np.testing.assert_array_equal(got[0][0].numpy()[1:] != 0, ~idle[1:])


def test_trace__a_head_that_only_training_uses_is_cut_along() -> None:
    net = Auxiliary().double().eval()
    graph = trace(net, SHAPE)
    assert (graph.axes["side.0.weight"][1] == graph.axes["stem.weight"][0]).all()
    assert (graph.axes["side.0.weight"][0] > 0).all()
    assert graph.training_only == {f"side.{k}.{kind}" for k in (0, 2) for kind in ("weight", "bias")}
    assert set(graph.dead) == {"unused.weight", "unused.bias"}
    assert graph.dead_parameters == 8 * 8 * 9 + 8
    pruned = assert_cut_is_masking(net, graph, random_cut(graph, 0.5, 0)).train()
    out = pruned(images())
    (out["out"].sum() + out["side"].sum()).backward()


@pytest.mark.parametrize(
    "wrap",
    [lambda y: (y, y * 2), lambda y: [y], lambda y: {"mask": y, "more": {"logits": [y.exp()]}}],
)
def test_trace__outputs_in_containers_are_never_cut(wrap: object) -> None:
    net = Net(lambda n, x: wrap(n.head(torch.relu(n.stem(x)))), stem=conv(3, 8), head=conv(8, 4))  # type: ignore[operator]
    graph = trace(net, SHAPE)
    assert (graph.axes["head.weight"][0] == 0).all()
    assert (graph.axes["stem.weight"][0] > 0).all()


def test_trace__a_network_that_returns_no_tensor_is_explained() -> None:
    with pytest.raises(PruningError, match="returns a str"):
        trace(Net(lambda n, x: str(n.stem(x).shape), stem=conv(3, 8)), SHAPE)


def test_trace__a_decision_by_values_is_explained() -> None:
    net = between(lambda n, x: x if x.sum() > 0 else -x)()
    with pytest.raises(PruningError, match="decides by the values of tensors"):
        trace(net, SHAPE)


def test_trace__plain_tensors_on_a_module_are_no_obstacle() -> None:
    net = between(lambda n, x: x * n.scale.to(x))()
    net.scale = torch.full((1, 1, 1, 1), 2.0)
    net = net.double().eval()
    graph = trace(net, SHAPE)
    assert graph.size > 14
    assert_cut_is_masking(net, graph, random_cut(graph, 0.4, 0))


def test_trace__layer_norm_is_frozen() -> None:
    net = between(
        on_tokens(lambda n, x: n.mix(n.norm(x)) + x), norm=lambda: nn.LayerNorm(8), mix=lambda: nn.Linear(8, 8)
    )()
    assert (trace(net, SHAPE).axes["stem.weight"][0] == 0).all()


def test_removal_error__of_several_outputs() -> None:
    net = Net(lambda n, x: {"a": n.head(n.stem(x)), "b": [n.stem(x).mean()]}, stem=conv(3, 8), head=conv(8, 1))
    graph = trace(net, SHAPE)
    assert removal_error(net, graph, graph.nothing(), images()) == 0
