import copy
from collections.abc import Callable

import pytest
import torch
from cuts import random_cut
from small_nets import Concat, Plain
from torch import nn, optim
from torch.optim import SGD, Adam, AdamW, Optimizer

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p: SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: Adam(p, 1e-3),
    "adamw-amsgrad": lambda p: AdamW(p, 1e-3, amsgrad=True),
    "adamw-foreach": lambda p: AdamW(p, 1e-3, foreach=True),
    "adamw-fused": lambda p: AdamW(p, 1e-3, fused=True),
    "adadelta": lambda p: optim.Adadelta(p, 1.0),
    "adagrad": lambda p: optim.Adagrad(p, 1e-2),
    "adamax": lambda p: optim.Adamax(p, 1e-3),
    "asgd": lambda p: optim.ASGD(p, 1e-2),
    "nadam": lambda p: optim.NAdam(p, 1e-3),
    "radam": lambda p: optim.RAdam(p, 1e-3),
    "rmsprop": lambda p: optim.RMSprop(p, 1e-3, momentum=0.9, centered=True),
    "rprop": lambda p: optim.Rprop(p, 1e-3),
}


def step(net: nn.Module, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    net(torch.randn(2, 3, 16, 16)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_cut_optimizer_state__same_indices_as_the_parameter(name: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    net = Concat().to(memory_format=layout)
    optimizer = OPTIMIZERS[name](net.parameters())
    for _ in range(2):
        step(net, optimizer)
    before = copy.deepcopy({n: optimizer.state[p] for n, p in net.named_parameters()})
    graph = pruning.trace(net, (2, 3, 16, 16))
    cut = pruning.remove(net, graph, random_cut(graph, 0.4))
    pruning.cut_optimizer_state([optimizer], net, cut)
    sliced = 0
    for parameter_name, parameter in net.named_parameters():
        for key, old in before[parameter_name].items():
            new = optimizer.state[parameter][key]
            if torch.is_tensor(old) and old.ndim:
                for dim, keep in cut.get(parameter_name, {}).items():
                    old = old.index_select(dim, torch.as_tensor(keep))
                assert torch.equal(new, old)
                assert new.stride() == parameter.stride()
                sliced += 1
            else:
                assert new == old
    assert sliced > 0
    weights = [p.detach().clone() for p in net.parameters()]
    step(net, optimizer)
    assert all(not torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))


def test_cut_optimizer_state__a_parameter_without_an_optimizer_is_refused() -> None:
    net = Plain()
    optimizer = SGD(net.first.parameters(), 0.1)
    with pytest.raises(PruningError, match=r"no optimizer holds second\.0\.weight"):
        pruning.cut_optimizer_state([optimizer], net, {})


def test_cut_optimizer_state__a_state_of_another_shape_is_told() -> None:
    net = Concat()
    optimizer = SGD(net.parameters(), 0.1, momentum=0.9)
    step(net, optimizer)
    for parameter in net.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros(3, 3, 3)
    graph = pruning.trace(net, (2, 3, 16, 16))
    cut = pruning.remove(net, graph, random_cut(graph, 0.4))
    with pytest.raises(PruningError, match=r"SGD's momentum_buffer of .* has shape \(3, 3, 3\), which can't be cut"):
        pruning.cut_optimizer_state([optimizer], net, cut)


def test_cut_optimizer_state__frozen_parameters_need_no_optimizer() -> None:
    net = Plain()
    net.first.requires_grad_(False)
    pruning.cut_optimizer_state([SGD([p for p in net.parameters() if p.requires_grad], 0.1)], net, {})
