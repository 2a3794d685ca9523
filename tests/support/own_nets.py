"""Networks as users bring them, for ``--model.arch own_nets.NAME``."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Supervised(nn.Module):
    """Deep supervision as in nnU-Net: a list of maps, each half as large as the one before."""

    def __init__(self, width: int = 8, kernels: tuple[int, ...] = (3, 3)) -> None:
        super().__init__()
        first, second = kernels
        self.stem = nn.Sequential(nn.Conv2d(3, width, first, padding=first // 2), nn.BatchNorm2d(width), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(width, 2 * width, second, 2, second // 2), nn.ReLU())
        self.side = nn.Conv2d(2 * width, 1, 1)
        self.merge = nn.Conv2d(3 * width, width, 3, padding=1)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits (N, 1, H, W) and (N, 1, H / 2, W / 2)."""
        x = self.stem(x)
        deep = self.deep(x)
        merged = self.merge(torch.cat([x, functional.interpolate(deep, scale_factor=2.0)], 1)).relu()
        return [self.head(merged), self.side(deep)]


def frozen_half(width: int = 8) -> nn.Module:
    """PraNet's reverse attention: its code fixes the width of what it expands, which freezes those filters."""
    return _Fixed(width)


class _Fixed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(3, 1, 1)
        self.middle, self.head = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 1, 1)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid().expand(-1, 8, -1, -1)
        return self.head(self.middle(gate * self.stem(x)).relu())


def returning(kind: str, channels: int = 1) -> nn.Module:
    """A network that returns what it is asked for."""
    return _Returning(kind, channels)


class _Returning(nn.Module):
    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind, self.layer = kind, nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> object:
        logits = self.layer(x)
        half = functional.avg_pool2d(logits, 2)
        made: dict[str, object] = {
            "map": logits,
            "small": half,
            "list": [half, logits],
            "equal": [logits, 2 * logits],
            "tuple": (logits, half),
            "dict": {"aux": half, "out": logits},
            "equal dict": {"out": logits, "aux": 2 * logits},
            "stack": torch.stack([logits, 2 * logits], 1),
            "text": "no map",
            "nested": [logits, [half]],
            "empty": [],
            "flat": logits.flatten(1),
        }
        return made[self.kind]
