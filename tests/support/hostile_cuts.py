"""What the tests of hostile networks share: input, cuts, a network with an auxiliary head."""

import numpy as np
import torch
from hostile_nets import conv
from torch import Tensor, nn

from polyp_lightning.pruning.graph import ChannelGraph, Removed

SHAPE = (2, 3, 16, 16)


def images(*shape: int) -> Tensor:
    return torch.randn(shape or SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def random_cut(graph: ChannelGraph, share: float, seed: int) -> Removed:
    rng, removed = np.random.default_rng(seed), graph.nothing()
    for group in graph.groups:
        most = len(group.components) - 1
        removed[rng.permutation(group.components)[: min(most, max(1, round(share * len(group.components))))]] = True
    return removed


class Auxiliary(nn.Module):
    """A second head, only while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle, self.head = conv(3, 8), conv(8, 6), conv(6, 1, 1)
        self.side, self.unused = nn.Sequential(conv(8, 4), nn.ReLU(), conv(4, 1, 1)), conv(8, 8)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        x = torch.relu(self.stem(x))
        out = self.head(torch.relu(self.middle(x)))
        return {"out": out, "side": self.side(x)} if self.training else out
