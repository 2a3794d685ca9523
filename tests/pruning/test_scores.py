"""The score against two references: autograd's derivative with respect to a gate, and a central difference."""

import numpy as np
import pytest
import torch
from small_nets import SMALL_NETS, Concat, Depthwise, Plain, Residual, SigmoidFeature, SqueezeExcite, randomise
from torch import Tensor, nn

from polyp_lightning import pruning
from polyp_lightning.pruning.scores import ConsumerScores

SIZE = 12
# Where each network's components leave their last affine layer: scaling these by g scales what consumers read by g.
EXITS = {
    Plain: ["first.1", "second.1"],
    Residual: ["stem.1", "branches.0.0.1", "branches.0.2", "branches.1.0.1", "branches.1.2"],
    Concat: ["outer.1", "inner.1", "merge.1"],
    Depthwise: ["stem.1", "depthwise.1", "project.1"],
    SqueezeExcite: ["first.1", "squeeze", "second.1"],
}


def prepared(make: type[nn.Module]) -> tuple[nn.Module, pruning.ChannelGraph, Tensor]:
    torch.manual_seed(1)
    net = randomise(make()).double().eval()
    return net, pruning.trace(net, (2, 3, SIZE, SIZE)), torch.randn(3, 3, SIZE, SIZE, dtype=torch.float64)


def losses(net: nn.Module, x: Tensor) -> Tensor:
    """One loss per image, not linear in the output."""
    return net(x).flatten(1).square().mean(1)


def measured(net: nn.Module, graph: pruning.ChannelGraph, x: Tensor) -> tuple[Tensor, Tensor]:
    got: list[tuple[Tensor, Tensor]] = []
    with ConsumerScores(net, graph, lambda s, norm: got.append((s, norm))):
        losses(net, x).sum().backward()
    assert len(got) == 1
    return got[0]


def gate_derivative(net: nn.Module, graph: pruning.ChannelGraph, x: Tensor) -> Tensor:
    """∂L_n/∂g_c for a gate g on everything that consumers read, by autograd."""
    gate = torch.ones(len(x), graph.size, dtype=torch.float64, requires_grad=True)
    handles = []
    for consumer in graph.consumers:
        module = net.get_submodule(consumer.weight.removesuffix(".weight"))

        def scale(module: nn.Module, args: tuple[Tensor, ...], channels: np.ndarray = consumer.channels) -> Tensor:
            values = gate[:, torch.as_tensor(channels)]
            return args[0] * (values if args[0].ndim == 2 else values[:, :, None, None])

        handles.append(module.register_forward_pre_hook(scale))
    (derivative,) = torch.autograd.grad(losses(net, x).sum(), gate)
    for handle in handles:
        handle.remove()
    return derivative


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected)[:, 1:].abs().max() / expected[:, 1:].abs().max())


@pytest.mark.parametrize("make", [net for net in SMALL_NETS if net is not SigmoidFeature])
def test_scores__equal_the_derivative_with_respect_to_a_gate(make: type[nn.Module]) -> None:
    net, graph, x = prepared(make)
    s, _ = measured(net, graph, x)
    assert relative_error(s, gate_derivative(net, graph, x)) <= 1e-8


@pytest.mark.parametrize("make", EXITS)
def test_scores__equal_a_central_difference_at_the_producers(make: type[nn.Module]) -> None:
    # Independent of hooks and consumers: scale γ and β of the component's last norms, whatever reads them.
    net, graph, x = prepared(make)
    s, _ = measured(net, graph, x)
    step = 1e-5
    checked = 0
    for group in graph.groups:
        for component in group.components:
            up, down = (scaled_losses(net, graph, make, component, x, 1 + sign * step) for sign in (1, -1))
            expected = (up - down) / (2 * step)
            assert torch.allclose(s[:, component], expected, rtol=1e-6, atol=1e-9)
            checked += int(expected.abs().max() > 1e-6)
    assert checked > 5


@torch.no_grad()
def scaled_losses(
    net: nn.Module, graph: pruning.ChannelGraph, make: type[nn.Module], component: int, x: Tensor, factor: float
) -> Tensor:
    stored = {k: v.clone() for k, v in net.state_dict().items()}
    for name in EXITS[make]:
        here = torch.as_tensor(graph.axes[f"{name}.weight"][0] == component)
        norm = net.get_submodule(name)
        norm.weight[here] *= factor
        norm.bias[here] *= factor
    values = losses(net, x)
    net.load_state_dict(stored)
    return values


@pytest.mark.parametrize("make", [Plain, Residual])
def test_scores__norm_is_that_of_each_images_output_gradient(make: type[nn.Module]) -> None:
    net, graph, x = prepared(make)
    _, norm = measured(net, graph, x)
    y = net(x)
    expected = [float(np.linalg.norm((2 * y[n] / y[n].numel()).detach().numpy())) for n in range(len(x))]
    assert norm.tolist() == pytest.approx(expected, rel=1e-12)


def test_scores__gradients_and_outputs_are_untouched() -> None:
    net, graph, x = prepared(Residual)
    losses(net, x).sum().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    measured(net, graph, x)
    assert all(torch.equal(a, p.grad) for a, p in zip(expected, net.parameters(), strict=True))


def test_scores__nothing_is_watched_without_gradients() -> None:
    net, graph, x = prepared(Plain)
    calls: list[Tensor] = []
    with ConsumerScores(net, graph, lambda s, norm: calls.append(s)), torch.no_grad():
        net(x)
    assert calls == []


def test_scores__detach_leaves_no_hook() -> None:
    net, graph, _ = prepared(Plain)
    with ConsumerScores(net, graph, lambda s, norm: None):
        assert count_hooks(net) == 2 + len(graph.consumers)
    assert count_hooks(net) == 0


def count_hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())
