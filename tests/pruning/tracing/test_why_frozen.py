"""Which layers keep filters that no removal takes, and which line of the network's code is the reason."""

import inspect
from collections.abc import Callable

import pytest
import torch
from hostile_nets import between, conv, on_tokens
from torch import Tensor, nn

from polyp_lightning.pruning import trace
from polyp_lightning.pruning.graph import Cause, FrozenLayer

SHAPE = (2, 3, 16, 16)


def expanded(net: nn.Module, x: Tensor) -> Tensor:
    return x * torch.sigmoid(net.map(x)).expand(-1, 8, -1, -1)


def normed(net: nn.Module, x: Tensor) -> Tensor:
    return net.norm(x)


def mixed(net: nn.Module, x: Tensor) -> Tensor:
    return x * torch.polar(x, x[:, :1]).real


def line_of(function: Callable[..., Tensor]) -> str:
    _, first = inspect.getsourcelines(function)
    return f"{__file__}:{first + 1}"


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (
            between(expanded, map=lambda: conv(8, 1)),
            Cause("expand with a size that the code fixes", "", line_of(expanded)),
        ),
        (between(mixed), Cause("polar", "", line_of(mixed))),
        (
            between(on_tokens(normed), norm=lambda: nn.LayerNorm(8)),
            Cause("native_layer_norm", "norm", line_of(normed)),
        ),
    ],
)
def test_why_frozen__names_the_operation_the_module_and_the_line(make: Callable[[], nn.Module], cause: Cause) -> None:
    assert trace(make(), SHAPE).why_frozen() == [FrozenLayer("stem", 8, 8, cause)]
    assert str(cause) == " ".join(filter(None, [cause.operation, cause.module and "in norm", f"({cause.code})"]))


def test_why_frozen__without_code_of_the_network() -> None:
    net = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), conv(8, 4), nn.Softmax(1), conv(4, 2))
    assert trace(net, SHAPE).why_frozen() == [
        FrozenLayer("2", 4, 4, Cause("_softmax", "3")),
        FrozenLayer("4", 2, 2, Cause("the network's output")),
    ]


def test_why_frozen__filters_that_all_go_together_or_next_to_what_stays() -> None:
    def padded(net: nn.Module, x: Tensor) -> Tensor:
        return net.all(torch.cat([x, torch.zeros_like(x[:, :2])], 1) + net.wide(x))

    make = between(padded, outputs=10, all=lambda: nn.GroupNorm(1, 10), wide=lambda: conv(8, 10))
    net = nn.Sequential(conv(3, 8), nn.GroupNorm(1, 8), conv(8, 1))
    graph = trace(net, SHAPE)
    assert graph.size == 2
    assert graph.why_frozen() == [FrozenLayer("0", 8, 8, Cause("all channels of a layer go together"))]
    # The first layer cannot go, the head is the output, and what it reads is the first layer.
    assert graph.frozen_share(frozenset(dict(net.named_parameters()))) == 1.0
    assert {layer.layer for layer in trace(make(), SHAPE).why_frozen()} == {"stem", "wide"}


def test_why_frozen__nothing_where_all_can_go() -> None:
    assert trace(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 1)), SHAPE).why_frozen() == []
