"""Memory before and after a cut to a quarter of the MACs: what is kept between steps, and the peak of a step."""

import numpy as np
import torch
from setting import Setting

from polyp_lightning.pruning import cut_optimizer_state, remove, select, trace


def run(setting: Setting) -> None:
    """Trains a step before and after the cut; the peak is counted on CUDA only."""
    net = setting.net().train()
    optimizer = torch.optim.AdamW(net.parameters())
    image = setting.training_batch()["image"].float()

    def step() -> tuple[int, int]:
        if setting.cuda:
            torch.cuda.reset_peak_memory_stats()
        net(image).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return _kept(setting, net, optimizer), torch.cuda.max_memory_allocated() if setting.cuda else 0

    step()
    kept_dense, peak_dense = step()
    graph = trace(net, (2, 3, setting.side, setting.side))
    removed = select(graph, np.random.default_rng(0).random(graph.size), target=0.25)
    cut_optimizer_state([optimizer], net, remove(net, graph, removed))
    kept, peak = step()
    numbers = sum(p.numel() for p in net.parameters())
    got = f"{kept_dense / 1e6:.0f} → {kept / 1e6:.0f} MB"
    setting.results.row(
        f"memory kept between steps, dense → cut ({numbers:,} parameters left)", "falls", got, kept < kept_dense
    )
    if setting.cuda:
        got = f"{peak_dense / 1e6:.0f} → {peak / 1e6:.0f} MB"
        setting.results.row(f"peak of a step, {setting.side}², batch {setting.batch}", "falls", got, peak < peak_dense)
    else:
        setting.results.skip("peak of a step", "counted on CUDA only")


def _kept(setting: Setting, net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if setting.cuda:
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()
    states = (value for state in optimizer.state.values() for value in state.values())
    return sum(tensor.nbytes for tensor in (*net.state_dict().values(), *states))
