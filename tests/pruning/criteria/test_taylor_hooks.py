"""The score against two references: autograd's derivative with respect to a gate, and a central difference."""

import dataclasses

import numpy as np
import pytest
import torch
from small_nets import SMALL_NETS, Concat, Depthwise, Plain, Residual, SigmoidFeature, SqueezeExcite, randomise
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polyp_lightning import pruning
from polyp_lightning.pruning.criteria.taylor_hooks import ConsumerChanges, contract
from polyp_lightning.pruning.graph import Consumer

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
    with ConsumerChanges(net, graph, lambda s, norm: got.append((s, norm))):
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
    with ConsumerChanges(net, graph, lambda s, norm: calls.append(s)), torch.no_grad():
        net(x)
    assert calls == []


def test_scores__two_forward_passes_before_one_backward() -> None:
    net, graph, x = prepared(Concat)
    other = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    got: list[tuple[Tensor, Tensor]] = []
    with ConsumerChanges(net, graph, lambda s, norm: got.append((s, norm))):
        (losses(net, x).sum() + losses(net, other).sum()).backward()
    got.sort(key=lambda scores: -len(scores[0]))
    for (s, norm), images in zip(got, (x, other), strict=True):
        expected, expected_norm = measured(net, graph, images)
        assert torch.equal(s, expected)
        assert torch.equal(norm, expected_norm)


class TwoHeads(nn.Module):
    """The second output is made from the first, so that the first's own gradient is not all that arrives at it."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.first, self.head, self.refine = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1), nn.Conv2d(2, 1, 1)
        self.kind = kind

    def forward(self, x: Tensor) -> dict[str, Tensor] | tuple[Tensor, ...]:
        coarse = self.head(torch.relu(self.first(x)))
        fine = self.refine(coarse)
        return {"coarse": coarse, "fine": fine} if self.kind is dict else (coarse, fine)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_scores__several_outputs(kind: type) -> None:
    torch.manual_seed(0)
    net, x = TwoHeads(kind).double(), torch.randn(3, 3, SIZE, SIZE, dtype=torch.float64)
    graph = pruning.trace(net, (2, 3, SIZE, SIZE))
    got: list[tuple[Tensor, Tensor]] = []
    with ConsumerChanges(net, graph, lambda s, norm: got.append((s, norm))):
        out = net(x)
        coarse, fine = out.values() if kind is dict else out
        (coarse.square().sum() + 3 * fine.sum()).backward()
    hidden = torch.relu(net.first(x)).detach().requires_grad_()
    coarse = net.head(hidden)
    fine = net.refine(coarse)
    (gradient,) = torch.autograd.grad(coarse.square().sum() + 3 * fine.sum(), hidden)
    ((s, norm),) = got
    channels = torch.as_tensor(graph.axes["first.weight"][0])
    assert torch.allclose(s[:, channels], (hidden * gradient).sum((2, 3)), rtol=1e-10)
    # 2·coarse and 3 are what arrives from outside.
    squares = (2 * coarse).square().flatten(1).sum(1) + 9 * fine[0].numel()
    assert torch.allclose(norm, squares.sqrt(), rtol=1e-12)


class Recomputing(nn.Module):
    def __init__(self, inner: nn.Module, reentrant: bool | None) -> None:
        super().__init__()
        self.first, self.head, self.inner, self.reentrant = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1), inner, reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = self.inner(x) if self.reentrant is None else checkpoint(self.inner, x, use_reentrant=self.reentrant)
        return self.head(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_scores__layers_that_are_recomputed(reentrant: bool) -> None:
    torch.manual_seed(0)
    net = Recomputing(nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU()), None).double()
    graph = pruning.trace(net, (2, 3, SIZE, SIZE))
    x = torch.randn(3, 3, SIZE, SIZE, dtype=torch.float64)
    expected, _ = measured(net, graph, x)
    net.reentrant = reentrant
    s, _ = measured(net, graph, x)
    assert torch.equal(s, expected)


class OverwrittenOutput(nn.Module):
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 1, 1)
        self.act = nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.second(torch.relu(self.first(x)))))


@pytest.mark.parametrize("inplace", [False, True])
def test_scores__on_the_output_side(inplace: bool) -> None:
    torch.manual_seed(0)
    net, x = OverwrittenOutput(inplace).double(), torch.randn(3, 3, SIZE, SIZE, dtype=torch.float64)
    graph = pruning.trace(net, (2, 3, SIZE, SIZE))
    channels = graph.axes["second.weight"][0]
    at_output = Consumer("second.weight", channels, side="output")
    s, _ = measured(net, dataclasses.replace(graph, consumers=(at_output,)), x)
    y = net.second(torch.relu(net.first(x))).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.head(torch.relu(y)).flatten(1).square().mean(1).sum(), y)
    expected = (y * gradient).detach().numpy().sum((2, 3))
    assert s[:, channels].numpy() == pytest.approx(expected, rel=1e-10)
    assert (np.delete(s.numpy(), channels, 1) == 0).all()


def test_scores__a_second_backward_pass_is_not_scored_again() -> None:
    net, graph, x = prepared(Plain)
    calls: list[Tensor] = []
    with ConsumerChanges(net, graph, lambda s, norm: calls.append(s)):
        loss = losses(net, x).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert len(calls) == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 16, 300, 120), (2, 70000, 3, 1), (1, 2, 1, 400000)])
def test_contract__equals_numpy_in_one_piece_and_in_many(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x, gradient = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(2))
    expected = np.einsum("ncij,ncij->nc", x.double().numpy(), gradient.double().numpy())
    assert contract(x, gradient, 1).numpy() == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(2, 5), (2, 7, 5), (2, 300, 4, 500)])
def test_contract__channels_at_the_end(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, gradient = torch.randn(shape), torch.randn(shape)
    expected = (x.double() * gradient.double()).numpy().sum(tuple(range(1, len(shape) - 1)))
    assert contract(x, gradient, -1).numpy() == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


def test_scores__detach_leaves_no_hook() -> None:
    net, graph, _ = prepared(Plain)
    with ConsumerChanges(net, graph, lambda s, norm: None):
        assert count_hooks(net) == 2 + len(graph.consumers)
    assert count_hooks(net) == 0


def count_hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())
