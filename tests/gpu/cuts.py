"""A network on the device is traced, cut and checked."""

import copy

import numpy as np
import torch
from setting import Setting

from polyp_lightning.pruning import cut_optimizer_state, mask, removal_error, remove, select, trace


def run(setting: Setting) -> None:
    """Compares the trace with the CPU's, the masked with the pruned network, and trains on after a cut."""
    results, shape = setting.results, (2, 3, setting.side, setting.side)
    net = setting.net()
    graph, there = trace(net, shape), trace(copy.deepcopy(net).cpu(), shape)
    same = graph.widths() == there.widths() and graph.total_macs() == there.total_macs()
    results.row("trace on the device: groups and MACs as on the CPU", "equal", f"{len(graph.groups)} groups", same)
    removed = select(graph, np.random.default_rng(0).random(graph.size), target=0.5)
    results.at_most("masked against pruned, float64 on the CPU", removal_error(net, graph, removed, shape), 1e-9)
    pruned = copy.deepcopy(net).double().eval()
    masked = copy.deepcopy(pruned)
    remove(pruned, graph, removed)
    mask(masked, graph, removed)
    images = setting.images(1, setting.side)[0].to(setting.device, torch.float64)
    with torch.no_grad():
        error = float((masked(images) - pruned(images)).abs().max())
    results.at_most("masked against pruned, float64 on the device", error, 1e-9)
    _train_on(setting, net, graph, removed)


def _train_on(setting: Setting, net: torch.nn.Module, graph, removed) -> None:  # noqa: ANN001
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    images = setting.images(2, setting.side)[0].to(setting.device)

    def step() -> None:
        optimizer.zero_grad()
        net(images).square().mean().backward()
        optimizer.step()

    step()
    cut_optimizer_state([optimizer], net, remove(net, graph, removed))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    step()
    moved = sum(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    tensors = [*net.state_dict().values(), *(v for s in optimizer.state.values() for v in s.values())]
    away = sum(tensor.device.type != setting.device.type for tensor in tensors)
    setting.results.row(
        "a fused AdamW step after a cut moves the weights; tensors elsewhere than on the device",
        "moves; 0",
        f"{moved} of {len(before)}; {away}",
        moved > 0.9 * len(before) and away == 0,
    )
