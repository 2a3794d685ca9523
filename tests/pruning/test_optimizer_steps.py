"""The step after a cut is the one that the optimizers' papers prescribe for the numbers that stay, worked in NumPy."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cuts import random_cut
from small_nets import Concat, randomise
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, Adam, AdamW, Optimizer
from torchmetrics import MeanMetric

from polyp_lightning import pruning

LR, DECAY, B1, B2, EPS, MU = 0.01, 0.1, 0.9, 0.99, 1e-8, 0.8
Numbers = dict[str, Any]


def momentum(p: Any, g: Any, old: Numbers, nesterov: bool = False) -> Any:
    """Sutskever et al. 2013, as PyTorch has it: v ← μv + g, p ← p − lr·v, with L2 decay inside g."""
    g = g + DECAY * p
    v = MU * old["momentum_buffer"] + g
    return p - LR * (g + MU * v if nesterov else v)


def nesterov(p: Any, g: Any, old: Numbers) -> Any:
    return momentum(p, g, old, nesterov=True)


def moments(p: Any, g: Any, old: Numbers) -> Any:
    """Kingma & Ba 2015, algorithm 1, with the highest second moment of Reddi et al. 2018 where the state has it."""
    t = float(old["step"]) + 1
    m = B1 * old["exp_avg"] + (1 - B1) * g
    v = B2 * old["exp_avg_sq"] + (1 - B2) * g * g
    v = np.maximum(v, old.get("max_exp_avg_sq", v))
    return p - LR * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)


def adam(p: Any, g: Any, old: Numbers) -> Any:
    return moments(p, g + DECAY * p, old)


def adamw(p: Any, g: Any, old: Numbers) -> Any:
    """Loshchilov & Hutter 2019: the decay is apart from the moments."""
    return moments(p, g, old) - LR * DECAY * p


ADAM: dict[str, Any] = {"lr": LR, "betas": (B1, B2), "eps": EPS, "weight_decay": DECAY}
MOMENTUM: dict[str, Any] = {"lr": LR, "momentum": MU, "weight_decay": DECAY}
CASES: dict[str, tuple[Callable[..., Optimizer], Callable[..., Any]]] = {
    "sgd": (lambda p: SGD(p, **MOMENTUM, foreach=False), momentum),
    "sgd foreach": (lambda p: SGD(p, **MOMENTUM, foreach=True), momentum),
    "sgd fused": (lambda p: SGD(p, **MOMENTUM, fused=True), momentum),
    "sgd nesterov": (lambda p: SGD(p, **MOMENTUM, nesterov=True), nesterov),
    "adam": (lambda p: Adam(p, **ADAM, foreach=False), adam),
    "adam foreach": (lambda p: Adam(p, **ADAM, foreach=True), adam),
    "adam fused": (lambda p: Adam(p, **ADAM, fused=True), adam),
    "adamw": (lambda p: AdamW(p, **ADAM, foreach=False), adamw),
    "adamw foreach": (lambda p: AdamW(p, **ADAM, foreach=True), adamw),
    "adamw fused": (lambda p: AdamW(p, **ADAM, fused=True), adamw),
    "adamw amsgrad": (lambda p: AdamW(p, **ADAM, amsgrad=True), adamw),
}


def backward(net: nn.Module, scaler: GradScaler) -> Tensor:
    """The loss, with its graph."""
    net.zero_grad()
    loss: Tensor = net(torch.randn(2, 3, 16, 16, dtype=torch.float64)).square().mean()
    scaler.scale(loss).backward()
    return loss


def array(value: Any) -> Any:
    return value.detach().numpy().copy() if torch.is_tensor(value) else value


def places(new: Any, old: Any) -> Any:
    """Where each number of a cut weight stood in the whole one: found by its value, of which there is only one."""
    order = np.argsort(old, axis=None)
    ranked = old.ravel()[order]
    assert len(np.unique(ranked)) == old.size, "numbers that could be mistaken for each other"
    found = order[np.searchsorted(ranked, new.ravel())].reshape(new.shape)
    assert np.array_equal(old.ravel()[found], new), "a number that was not there"
    return found


def assert_skipped(net: nn.Module, optimizer: Optimizer, scaler: GradScaler) -> None:
    """A step with a gradient that is not finite changes nothing but the scaler's factor."""
    backward(net, scaler)
    parameters = list(net.parameters())
    parameters[-1].grad.fill_(torch.inf)  # type: ignore[union-attr]
    before = copy.deepcopy([parameters, [dict(optimizer.state[p]) for p in parameters]])
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**9
    torch.testing.assert_close([parameters, [dict(optimizer.state[p]) for p in parameters]], before, rtol=0, atol=0)


def numbers(net: nn.Module, optimizer: Optimizer) -> tuple[Numbers, dict[str, Numbers]]:
    """Copies of the weights and of what the optimizer remembers of each."""
    weights = {name: array(p) for name, p in net.named_parameters()}
    return weights, {n: {k: array(v) for k, v in optimizer.state[p].items()} for n, p in net.named_parameters()}


def assert_next_step(
    net: nn.Module, optimizer: Optimizer, scaler: GradScaler, before: tuple[Numbers, dict[str, Numbers]], by_hand: Any
) -> None:
    """The cut network's next step is the one worked by hand from what was kept of the whole network's numbers."""
    weights, states = before
    backward(net, scaler)
    expected = {}
    for name, parameter in net.named_parameters():
        p, g = array(parameter), array(parameter.grad) / scaler.get_scale()
        kept = places(p, weights[name])
        old = {k: v.ravel()[kept] if np.ndim(v) else v for k, v in states[name].items()}
        expected[name] = by_hand(p, g, old)
    scaler.step(optimizer)
    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(array(parameter), expected[name], rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize(("make", "by_hand"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_step_after_a_cut__equals_numpy(
    make: Callable[..., Optimizer], by_hand: Callable[..., Any], layout: torch.memory_format, scaled: bool
) -> None:
    torch.manual_seed(0)
    net = randomise(Concat()).double().train().to(memory_format=layout)
    optimizer, scaler = make(net.parameters()), GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
    for _ in range(3):
        backward(net, scaler)
        scaler.step(optimizer)
        scaler.update()
    before = numbers(net, optimizer)
    graph = pruning.trace(copy.deepcopy(net), (2, 3, 16, 16))
    pruning.cut_optimizer_state([optimizer], net, pruning.remove(net, graph, random_cut(graph, 0.4)))
    shapes = {name: p.shape for name, p in net.named_parameters()}
    # Of 5 filters and 14 inputs some went from one convolution, and the same channels from its batch norm.
    assert shapes["merge.0.weight"][:2] == (3, 9)
    assert shapes["merge.1.weight"] == (3,)

    if scaled:
        assert_skipped(net, optimizer, scaler)
    assert_next_step(net, optimizer, scaler, before, by_hand)


@pytest.mark.parametrize(("make", "by_hand"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_step_after_each_cut__while_losses_keep_their_graphs(
    make: Callable[..., Optimizer], by_hand: Callable[..., Any], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    net = randomise(Concat()).double().train().to(memory_format=layout)
    optimizer, scaler, mean, kept = make(net.parameters()), GradScaler("cpu", enabled=False), MeanMetric(), []
    for seed in (0, 1):
        for _ in range(2):
            kept.append(backward(net, scaler))
            mean(kept[-1])
            scaler.step(optimizer)
        before = numbers(net, optimizer)
        graph = pruning.trace(net, (2, 3, 16, 16))
        pruning.cut_optimizer_state([optimizer], net, pruning.remove(net, graph, random_cut(graph, 0.4, seed)))
        assert_next_step(net, optimizer, scaler, before, by_hand)
    assert all(loss.grad_fn is not None for loss in (*kept, mean._forward_cache))
