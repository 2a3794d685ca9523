"""Networks that are small enough for a pencil."""

import numpy as np
import torch
from torch import Tensor, nn

from polyp_lightning import pruning
from polyp_lightning.pruning.graph import ChannelGraph


class Line(nn.Module):
    """y = Σ_k v_k (w_k x + b_k) at each pixel, for two components k."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 2, 1, bias=bias), nn.Conv2d(2, 1, 1, bias=False)
        fill(self.first.weight, [1, 2])
        fill(self.head.weight, [3, -1])
        if bias:
            fill(self.first.bias, [1, 0])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x))


class Stream(nn.Module):
    """Two layers make the same two components."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        make = nn.BatchNorm2d if norm else lambda _: nn.Identity()
        self.first, self.first_norm = nn.Conv2d(1, 2, 1, bias=False), make(2)
        self.second, self.second_norm = nn.Conv2d(2, 2, 1, bias=False), make(2)
        self.head = nn.Conv2d(2, 1, 1)
        fill(self.first.weight, [1, 3])
        fill(self.second.weight, [2, 0, 0, -6])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(self.first(x))
        return self.head(x + self.second_norm(self.second(x)))


# Two images of two pixels, with what the output ought to be.
X = torch.tensor([[1.0, -1.0], [2.0, 0.0]]).view(2, 1, 1, 2)
T = torch.tensor([[0.0, -3.0], [5.0, 0.0]]).view(2, 1, 1, 2)


def fill(tensor: Tensor, values: list[float]) -> None:
    with torch.no_grad():
        tensor.copy_(torch.tensor(values, dtype=tensor.dtype).view_as(tensor))


def squares(y: Tensor, t: Tensor) -> Tensor:
    return (y - t).square().sum() / 2


def traced(net: nn.Module, channels: int = 1) -> ChannelGraph:
    return pruning.trace(net, (2, channels, 4, 4))


def of(graph: ChannelGraph, importance: np.ndarray, layer: str = "first") -> list[float]:
    """The importances of what a layer makes, in the order of its filters."""
    return importance[graph.axes[f"{layer}.weight"][0]].tolist()
