"""What the networks of the field do to channels can be cut, exactly, and all of it goes that can."""

from collections.abc import Callable

import pytest
import torch
from field_nets import normed_unet, transformer, unpooling
from hostile_nets import between, conv, parameter
from torch import Tensor, nn
from torch.nn import functional
from whole_check import check_whole, counted_macs

from polyp_lightning.pruning import trace

SHAPE = (2, 3, 14, 18)


def frozen_filters(graph: object, net: nn.Module) -> dict[str, int]:
    """Filters of each convolution and rows of each linear layer that no removal takes, the head's left out."""
    layers = (nn.modules.conv._ConvNd, nn.Linear)
    kinds = {name: module for name, module in net.named_modules() if isinstance(module, layers)}
    sides = {name: int(getattr(layer, "transposed", False) and layer.groups == 1) for name, layer in kinds.items()}
    counts = {name: int((graph.axes[f"{name}.weight"][side] == 0).sum()) for name, side in sides.items()}
    return {name: count for name, count in counts.items() if count and not name.startswith("head")}


@pytest.mark.parametrize("options", [{"affine": True}, {"affine": True, "track_running_stats": True}, {}])
def test_instance_norm__scales_and_statistics_go_with_their_channels(options: dict[str, bool]) -> None:
    def make() -> nn.Module:
        return normed_unet(nn.InstanceNorm2d, **options)

    graph = check_whole(make, SHAPE, onnx=len(options) == 1)
    assert not frozen_filters(graph, make())
    assert not graph.not_understood


@pytest.mark.parametrize(
    ("function", "outputs"),
    [
        (lambda n, x: x.repeat(1, 2, 1, 1), 16),
        (lambda n, x: torch.cat([x, torch.relu(x).repeat(1, 3, 1, 1)], 1), 32),
        (lambda n, x: x.unsqueeze(0).repeat(2, 1, 1, 1, 1).sum(0), 8),
    ],
)
def test_repeat__all_copies_of_a_channel_go(function: Callable[..., Tensor], outputs: int) -> None:
    make = between(function, outputs=outputs)
    graph = check_whole(make, SHAPE, onnx=outputs == 16)
    assert not frozen_filters(graph, make())


def test_repeat__one_channel_for_many_stays() -> None:
    make = between(lambda n, x: x + n.one(x).repeat(1, 8, 1, 1), one=lambda: conv(8, 1))
    graph = check_whole(make, SHAPE)
    assert frozen_filters(graph, make()) == {"stem": 8, "one": 1}


@pytest.mark.parametrize(
    "gate",
    [
        lambda g: 1 - torch.sigmoid(g),
        lambda g: 0 - torch.rsub(torch.tanh(g), 0.0, alpha=2.0),
        lambda g: torch.rsub(torch.sigmoid(g), torch.tanh(g)),
    ],
)
def test_rsub__a_reversed_gate_goes_with_what_it_gates(gate: Callable[[Tensor], Tensor]) -> None:
    make = between(lambda n, x: x + gate(n.gate(x)) * n.value(x), gate=lambda: conv(8, 8, 1), value=lambda: conv(8, 8))
    graph = check_whole(make, SHAPE, onnx=True)
    assert not frozen_filters(graph, make())


@pytest.mark.parametrize("size", [2, 3])
def test_max_unpool__values_and_indices_go_together(size: int) -> None:
    graph = check_whole(lambda: unpooling(size), SHAPE)
    assert not frozen_filters(graph, unpooling(size))


def test_max_unpool__indices_of_other_channels_stay() -> None:
    def crossed(net: nn.Module, x: Tensor) -> Tensor:
        pooled, indices = functional.max_pool2d(x, 2, return_indices=True)
        return functional.max_unpool2d(pooled, indices.flip(1), 2, output_size=x.shape[2:])

    graph = check_whole(between(crossed), SHAPE)
    assert frozen_filters(graph, between(crossed)()) == {"stem": 8}


@pytest.mark.parametrize(("groups", "outputs"), [(8, 8), (8, 16), (4, 8), (2, 6), (4, 4)])
@pytest.mark.parametrize("before", [nn.ReLU, nn.Sigmoid])
def test_grouped_transposed__whole_groups_go(groups: int, outputs: int, before: type[nn.Module]) -> None:
    make = between(
        lambda n, x: n.norm(n.up(n.before(x))),
        outputs=outputs,
        before=before,
        up=lambda: nn.ConvTranspose2d(8, outputs, 3, stride=2, groups=groups),
        norm=lambda: nn.BatchNorm2d(outputs),
    )
    graph = check_whole(make, SHAPE, onnx=groups == 4)
    assert not frozen_filters(graph, make())
    assert len({*graph.axes["stem.weight"][0]}) == groups


def reversed_attention(widen: Callable[..., Tensor]) -> Callable[[], nn.Module]:
    """PraNet's: a map of one channel, expanded to the features that it gates."""
    return between(
        lambda n, x: x + n.value(x * widen(n, 1 - torch.sigmoid(n.map(x)), x)),
        map=lambda: conv(8, 1),
        value=lambda: conv(8, 8),
        channel=8,
    )


@pytest.mark.parametrize(
    "widen",
    [
        lambda n, w, x: w.expand(-1, x.shape[1], -1, -1),
        lambda n, w, x: w.expand(-1, n.channel, -1, -1),
        lambda n, w, x: w.expand_as(x),
        lambda n, w, x: w.mean((2, 3), keepdim=True).expand_as(x),
        lambda n, w, x: w.repeat(1, x.shape[1], 1, 1),
        lambda n, w, x: torch.tanh(w.expand_as(x)),
    ],
)
def test_expand__to_the_width_of_what_it_gates_follows(widen: Callable[..., Tensor]) -> None:
    graph = check_whole(reversed_attention(widen), SHAPE, onnx=True)
    assert frozen_filters(graph, reversed_attention(widen)()) == {"map": 1}


@pytest.mark.parametrize(
    "widen",
    [
        lambda n, w, x: w.expand(-1, 8, -1, -1),
        lambda n, w, x: w.repeat(1, 8, 1, 1),
    ],
)
def test_expand__to_a_constant_width_stays(widen: Callable[..., Tensor]) -> None:
    graph = check_whole(reversed_attention(widen), SHAPE)
    frozen = frozen_filters(graph, reversed_attention(widen)())
    assert frozen == {"stem": 8, "map": 1, "value": 8}


@pytest.mark.parametrize(
    "function",
    [
        lambda n, x: torch.cat([x[:, :1].expand(-1, x.shape[1], -1, -1), x], 1),
        lambda n, x: torch.cat([x.mean(1, keepdim=True).expand_as(x), n.map(x).expand_as(x)], 1),
        lambda n, x: torch.cat([x, x * n.map(x).expand(-1, x.shape[1] // 2, -1, -1).repeat(1, 2, 1, 1)], 1),
    ],
)
def test_expand__next_to_features_is_no_error(function: Callable[..., Tensor]) -> None:
    check_whole(between(function, outputs=16, map=lambda: conv(8, 1)), SHAPE)


@pytest.mark.parametrize(
    "prompt",
    [
        lambda n, x: n.mix(n.map),
        lambda n, x: n.mix(functional.interpolate(n.map, scale_factor=2.0)[..., :14, :18]),
        lambda n, x: n.mix(n.map.expand(len(x), -1, -1, -1)),
        lambda n, x: n.mix(n.map.repeat(len(x), 1, 1, 1) + x),
        lambda n, x: n.mix(torch.relu(n.mix(n.map))),
        lambda n, x: n.line(n.map.flatten(2).transpose(1, 2)).transpose(1, 2).view(1, 8, 14, 18),
    ],
)
def test_macs__of_a_layer_over_parameters_are_those_of_one_call(prompt: Callable[..., Tensor]) -> None:
    make = between(
        lambda n, x: x * prompt(n, x), map=parameter(1, 8, 14, 18), mix=lambda: conv(8, 8), line=lambda: nn.Linear(8, 8)
    )
    graph = trace(make(), SHAPE)
    net = make()
    assert graph.total_macs() == counted_macs(net, torch.zeros(1, *SHAPE[1:]))


@pytest.mark.parametrize(
    ("function", "frozen"),
    [
        # Made for the sum alone: all but the features that it gates.
        (lambda n, x: x * torch.sigmoid(n.value(x).sum(1, keepdim=True)), {}),
        (lambda n, x: x * torch.sigmoid(torch.relu(n.norm(n.value(x))).sum(1, keepdim=True)), {}),
        (lambda n, x: x * (0.5 * n.value(x)).sum((1, 2), keepdim=True), {}),
        # A layer that reads the sum's channels as well would miss the sum's share of their score.
        (lambda n, x: n.last(x) * n.value(x).sum(1, keepdim=True) + n.last(n.value(x)), {"stem": 8, "value": 8}),
        # What is not 0 where it is masked counts in a sum, and so does a mean's number of channels.
        (lambda n, x: x * torch.sigmoid(n.value(x)).sum(1, keepdim=True), {"value": 8}),
        (lambda n, x: x * torch.sigmoid(n.value(x).mean(1, keepdim=True)), {"value": 8}),
    ],
)
def test_sum__over_channels_is_exact_where_they_are_zero(function: Callable[..., Tensor], frozen: object) -> None:
    make = between(function, value=lambda: conv(8, 8), norm=lambda: nn.BatchNorm2d(8), last=lambda: conv(8, 8))
    net, graph = make(), check_whole(make, SHAPE, onnx=True)
    used = {name: count for name, count in frozen_filters(graph, net).items() if f"{name}.weight" in graph.executed}
    assert used == frozen


@pytest.mark.parametrize("heads", [(4,), (8, 2, 4), (1, 4)])
def test_heads__go_as_wholes_where_the_module_keeps_their_width_alone(heads: tuple[int, ...]) -> None:
    graph = check_whole(lambda: transformer(*heads), (2, 3, 5, 7), onnx=len(heads) == 1)
    for number, count in enumerate(heads):
        rows = [graph.axes[f"blocks.{number}.{name}.weight"][0] for name in ("q", "k", "v")]
        assert all((one == rows[0]).all() for one in rows)
        assert len(set(rows[0].tolist()) - {0}) == (count if count > 1 else 0)
