"""Heads, queries and keys: what goes together, what a module remembers, and where it is scored."""

from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
from hostile_cuts import SHAPE, images, random_cut
from hostile_nets import NETS, between
from small_nets import randomise
from timm.layers import Attention
from torch import Tensor, nn

from polyp_lightning import pruning
from polyp_lightning.pruning.criteria.taylor_hooks import ConsumerChanges
from polyp_lightning.pruning.graph import Consumer


class OneBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention, self.head = nn.Conv2d(3, 12, 3, padding=1), Attention(12, 3), nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.attention(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))


@pytest.mark.parametrize("fused", [True, False])
def test_trace__whole_heads_go_and_the_module_follows(fused: bool) -> None:
    torch.manual_seed(0)
    net = randomise(OneBlock())
    net.attention.fused_attn = fused
    graph = pruning.trace(net, SHAPE)
    (heads,) = (g for g in graph.groups if g.name == "attention.qkv")
    assert len(heads.components) == 3
    removed = graph.nothing()
    removed[heads.components[1]] = True
    pruning.assert_exact(net, graph, removed, images())
    pruning.remove(net, graph, removed)
    assert (net.attention.num_heads, net.attention.head_dim, net.attention.attn_dim) == (2, 4, 8)
    assert net.attention.qkv.weight.shape == (24, 12)
    plan = pruning.describe(net)
    assert plan["sizes"]["attention"] == {"num_heads": 2, "attn_dim": 8}
    again = pruning.rebuild(OneBlock(), plan)
    again.load_state_dict(net.state_dict())
    again.attention.fused_attn = fused
    x = images().float()
    assert torch.equal(again.eval()(x), net.eval()(x))


def derivative_of_gates(net: nn.Module, graph: pruning.ChannelGraph, consumer: object, x: Tensor) -> Tensor:
    """Σ y·∂L/∂y over the rows of a layer, as the derivative with respect to a gate on each of its outputs."""
    layer = net.get_submodule(consumer.weight.rpartition(".")[0])  # type: ignore[attr-defined]
    channels = consumer.channels  # type: ignore[attr-defined]
    gate = torch.ones(len(channels), dtype=torch.float64, requires_grad=True)
    shape = (-1, 1, 1) if isinstance(layer, nn.Conv2d) else (-1,)
    handle = layer.register_forward_hook(lambda _, __, out: out * gate.view(shape))
    net(x).square().sum().backward()
    handle.remove()
    return torch.zeros(graph.size, dtype=torch.float64).index_add_(0, torch.as_tensor(channels), gate.grad)


def test_trace__queries_and_keys_are_scored_once_where_one_is_made() -> None:
    make, _ = NETS["attention with a constant scale"]
    torch.manual_seed(0)
    net = randomise(make()).double().eval()
    graph = pruning.trace(net, SHAPE)
    (consumer,) = (c for c in graph.consumers if c.side == "output")
    assert (graph.axes["q.weight"][0] == graph.axes["k.weight"][0]).all()
    assert (consumer.channels == graph.axes["q.weight"][0]).all()
    others = [c.channels for c in graph.consumers if c.side == "input"]
    assert not any(set(consumer.channels) & set(channels) - {0} for channels in others)
    score = derivative_of_gates(net, graph, consumer, images())
    # Masking by a factor 1 − h instead of 0 changes the loss by −h times the score: a central difference over what
    # masking would zero.
    component = consumer.channels[2]
    losses = []
    net.requires_grad_(False)
    for h in (1e-5, -1e-5):
        net.q.weight.data[2] *= 1 - h
        net.q.bias.data[2] *= 1 - h
        losses.append(float(net(images()).square().sum()))
        net.q.weight.data[2] /= 1 - h
        net.q.bias.data[2] /= 1 - h
    assert (losses[1] - losses[0]) / 2e-5 == pytest.approx(float(score[component]), rel=1e-4)


@pytest.mark.parametrize("name", ["attention with a constant scale", "query used twice", "heads", "linear attention"])
def test_scores__of_attention_are_the_derivative_of_a_gate(name: str) -> None:
    # A gate on what is masked (producers), at 1, is the change that removal makes to first order; exact where every
    # component is scored exactly once.
    torch.manual_seed(0)
    net = randomise(NETS[name][0]()).double().eval()
    graph = pruning.trace(net, SHAPE)
    got: list[Tensor] = []
    with ConsumerChanges(net, graph, lambda scores, _: got.append(scores.sum(0))):
        net(images()).square().sum().backward()
    gates = torch.ones(graph.size, dtype=torch.float64, requires_grad=True)
    handles = [
        layer.register_forward_pre_hook(gated_input(gates, consumer))
        if consumer.side == "input"
        else layer.register_forward_hook(gated_output(gates, consumer))
        for consumer in graph.consumers
        for layer in [net.get_submodule(consumer.weight.rpartition(".")[0])]
    ]
    net(images()).square().sum().backward()
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(got[0][1:], gates.grad[1:])
    scored = set().union(*(set(consumer.channels) for consumer in graph.consumers)) - {0}
    assert scored == set(range(1, graph.size))


def gated_input(gates: Tensor, consumer: Consumer) -> Callable[..., tuple[Tensor]]:
    return lambda module, args: (args[0] * gate_of(gates, consumer, module),)


def gated_output(gates: Tensor, consumer: Consumer) -> Callable[..., Tensor]:
    return lambda module, _, out: out * gate_of(gates, consumer, module)


def gate_of(gates: Tensor, consumer: Consumer, module: nn.Module) -> Tensor:
    channels = torch.as_tensor(consumer.channels)
    gate = torch.where(channels > 0, gates[channels], 1.0)
    return gate.view(-1, 1, 1) if isinstance(module, nn.Conv2d) else gate


def test_trace__attention_of_manet_thins_out() -> None:
    net = smp.MAnet("resnet18", encoder_weights=None)
    graph = pruning.trace(net, (2, 3, 64, 64))
    rows = graph.axes["decoder.center.top_conv.weight"][0]
    assert (rows > 0).all()
    assert (rows == graph.axes["decoder.center.center_conv.weight"][0]).all()
    # Its values are viewed as (channels, height, width) though they lie as (height · width, channels).
    assert (graph.axes["decoder.center.bottom_conv.weight"][0] == 0).all()


def test_trace__a_scale_that_follows_the_width_keeps_the_width() -> None:
    make, _ = NETS["attention with the default scale"]
    graph = pruning.trace(make(), SHAPE)
    assert (graph.axes["q.weight"][0] == 0).all()
    assert (graph.axes["v.weight"][0] > 0).all()


def test_remove__a_number_that_equals_a_width_by_chance_stays() -> None:
    net = between(lambda n, x: x.view(len(x), -1, 256).view_as(x))()
    net.classes = 8
    graph = pruning.trace(net, SHAPE)
    assert (graph.axes["stem.weight"][0] > 0).all()
    assert graph.sizes == ()


def test_remove__numbers_that_modules_keep_follow() -> None:
    make, _ = NETS["split by remembered sizes"]
    net = make()
    graph = pruning.trace(net, SHAPE)
    removed = random_cut(graph, 0.4, 0)
    pruning.remove(net, graph, removed)
    assert net.dim_a + net.dim_b == net.stem.out_channels
    assert pruning.describe(net)["sizes"] == {"": {"dim_a": net.dim_a, "dim_b": net.dim_b}}
