"""Random cuts, and MACs counted by PyTorch."""

import copy

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from polyp_lightning import pruning


def random_cut(graph: pruning.ChannelGraph, share: float, seed: int = 0) -> np.ndarray:
    """Remove a share of each coupled layer, at least one component where it has two."""
    rng = np.random.default_rng(seed)
    removed = graph.nothing()
    for group in graph.groups:
        size = len(group.components)
        if size > 1:
            removed[rng.choice(group.components, max(1, int(share * size)), replace=False)] = True
    return removed


def reference_macs(net: nn.Module, size: int) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(net).eval()(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 2
