"""Networks written to be pruned wrongly: hard-coded sizes, tied and borrowed weights, products without a layer."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_nets import Concat, Plain, randomise
from torch import Tensor, nn
from torch.nn import functional

from polyp_lightning.pruning import Dense, Limits, mask, remove, select, trace
from polyp_lightning.pruning.criteria.taylor_hooks import ConsumerChanges
from polyp_lightning.pruning.graph import ChannelGraph, Removed

SHAPE = (2, 3, 16, 16)


class Net(nn.Module):
    """A function of named parts."""

    def __init__(self, function: Callable[["Net", Tensor], Tensor], **parts: nn.Module | nn.Parameter | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, (nn.Module, nn.Parameter)):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def start(channels: int = 8) -> nn.Conv2d:
    return nn.Conv2d(3, channels, 3, padding=1)


def head(channels: int = 8) -> nn.Conv2d:
    return nn.Conv2d(channels, 1, 1)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape))


def spatial_softmax(net: Net, x: Tensor) -> Tensor:
    y = net.start(x)
    return net.head(y * torch.softmax(y.reshape(len(y), 8, -1), -1).reshape(len(y), -1, 16, 16))


def unpooled(net: Net, x: Tensor) -> Tensor:
    pooled, indices = functional.max_pool2d(net.start(x), 2, return_indices=True)
    return net.head(functional.max_unpool2d(net.middle(pooled), indices, 2))


def attention(net: Net, x: Tensor) -> Tensor:
    tokens = net.start(x).flatten(2).transpose(1, 2)
    q, k, v = net.q(tokens), net.k(tokens), net.v(tokens)
    return net.head((torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v).mean(1))


def tied_depthwise() -> nn.Module:
    first, second = (nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in range(2))
    second.weight = first.weight
    return nn.Sequential(start(), first, nn.ReLU(), second, head())


def coded(net: Net, x: Tensor) -> Tensor:
    bias = functional.linear(net.codes, net.map.weight, net.map.bias)
    return net.head(net.start(x) + bias.view(1, -1, 1, 1))


NETS: dict[str, Callable[[], nn.Module]] = {
    "prelu of a sigmoid": lambda: nn.Sequential(start(), nn.Sigmoid(), nn.PReLU(8), head()),
    "bias of rows": lambda: Net(coded, start=start(), codes=parameter(8, 4), map=nn.Linear(4, 1), head=head()),
    "functional group norm": lambda: Net(
        lambda n, x: n.head(functional.group_norm(n.start(x), 4, n.scale, n.shift)),
        **{"start": start(16), "scale": parameter(16), "shift": parameter(16), "head": head(16)},
    ),
    "functional depthwise": lambda: Net(
        lambda n, x: n.head(functional.conv2d(n.start(x), n.kernel, groups=8)),
        **{"start": start(), "kernel": parameter(8, 1, 3, 3), "head": head()},
    ),
    "tied depthwise": tied_depthwise,
    "tied decoder": lambda: Net(
        lambda n, x: n.head(functional.conv_transpose2d(torch.relu(n.encode(n.start(x))), n.encode.weight)),
        **{"start": start(4), "encode": nn.Conv2d(4, 8, 3), "head": head(4)},
    ),
    "constant view that still runs": lambda: Net(spatial_softmax, start=start(), head=head()),
    "constant narrow": lambda: Net(lambda n, x: n.head(n.start(x).narrow(1, 0, 8)), start=start(), head=head()),
    "constant view of a parameter": lambda: Net(
        lambda n, x: n.head(n.start(x) * n.scale.view(1, 8, 1, 1)), start=start(), scale=parameter(8), head=head()
    ),
    "indices of a pool": lambda: Net(unpooled, start=start(), middle=nn.Conv2d(8, 8, 3, padding=1), head=head()),
    "attention scaled by a size": lambda: Net(
        attention,
        **{"start": start(), "q": nn.Linear(8, 6), "k": nn.Linear(8, 6), "v": nn.Linear(8, 8), "head": nn.Linear(8, 1)},
    ),
    "whole-numbered buffer": lambda: Net(
        lambda n, x: n.head(n.start(x) + n.shift), start=start(), shift=torch.arange(8).view(8, 1, 1), head=head()
    ),
}


def cut_share(graph: ChannelGraph, share: float, seed: int = 0) -> Removed:
    rng, removed = np.random.default_rng(seed), graph.nothing()
    for group in graph.groups:
        most = len(group.components) - 1
        removed[rng.permutation(group.components)[: min(most, round(share * len(group.components)))]] = True
    return removed


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("name", NETS)
def test_remove__is_masking_in_hostile_nets(name: str, share: float) -> None:
    net = randomise(NETS[name]()).double().eval()
    graph = trace(net, SHAPE)
    removed = cut_share(graph, share)
    masked, pruned = copy.deepcopy(net), copy.deepcopy(net)
    mask(masked, graph, removed)
    remove(pruned, graph, removed)
    x = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(pruned(x), masked(x), rtol=0, atol=1e-9)


def score(net: nn.Module, graph: ChannelGraph) -> Tensor:
    got: list[Tensor] = []
    x = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with ConsumerChanges(net, graph, lambda s, _: got.append(s)):
        net(x).square().sum().backward()
    return got[0].sum(0)


def tokens(net: Net, x: Tensor) -> Tensor:
    return net.head(torch.relu(net.hidden(net.start(x).flatten(2).transpose(1, 2))).mean(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Net(tokens, start=start(), hidden=nn.Linear(8, 6), head=nn.Linear(6, 1)),
        NETS["attention scaled by a size"],
        Plain,
    ],
)
def test_scores__equal_the_derivative_at_every_reading_weight(make: Callable[[], nn.Module]) -> None:
    # Σ x·∂L/∂x over an input channel of a layer equals Σ W·∂L/∂W over the weights that read it, hooks or no hooks.
    net = randomise(make()).double().eval()
    graph = trace(net, SHAPE)
    got = score(net, graph)
    wanted = torch.zeros_like(got)
    for name, layer in net.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            read = (layer.weight * layer.weight.grad).transpose(0, 1).flatten(1).sum(1)
            wanted.index_add_(0, torch.as_tensor(graph.axes[f"{name}.weight"][1]), read)
    torch.testing.assert_close(got[1:], wanted[1:])
    assert all((got[group.components] != 0).any() for group in graph.groups)


def test_scores__do_not_depend_on_what_is_frozen() -> None:
    net = randomise(Concat()).double().eval()
    graph = trace(net, SHAPE)
    wanted = score(net, graph)
    net.outer.requires_grad_(False)
    net.inner.requires_grad_(False)
    torch.testing.assert_close(score(net, graph), wanted)


def test_select__nothing_where_the_floor_is_within_the_tolerance() -> None:
    graph = trace(Concat(), SHAPE)
    assert not select(graph, np.ones(graph.size), 0.995, limits=Limits(floor=1.0)).any()


def test_select__grouped_layer_that_changes_its_coupling() -> None:
    # 4 groups of 4 go as wholes; 3 groups of 4 lose positions: a group that the dense network did not have.
    net = nn.Sequential(start(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.ReLU(), head(16))
    graph = trace(net, SHAPE)
    dense, removed = Dense.of(graph), graph.nothing()
    removed[graph.groups[0].components[0]] = True
    remove(net, graph, removed)
    again = trace(net, SHAPE)
    chosen = select(again, np.arange(again.size, dtype=float), 0.5, dense=dense)
    remove(net, again, chosen)
    assert net(torch.randn(SHAPE)).shape == (2, 1, 16, 16)
