"""A machine that is as fast as it says: times worked out from shapes."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FakeTimer:
    """A picosecond for each MAC of a network whose filters are rounded up, some for each value, and a fixed rest.

    Args:
        step: filters are as fast as the next multiple of this, along inputs and outputs.
        spread: the share by which times scatter from one measurement to the next, in turns up and down.
    """

    def __init__(self, step: int = 8, spread: float = 0.0) -> None:
        self.step, self.signs = step, itertools.cycle((1 + spread, 1 - spread))
        self.conditions = {"backend": "fake", "version": "1", "threads": 1, "machine": "none"}
        self.measured: list[nn.Module] = []

    def __call__(self, net: nn.Module, input_shape: Sequence[int]) -> float:
        assert not net.training
        self.measured.append(net)
        times: list[float] = []
        layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
        handles = [m.register_forward_hook(lambda m, _, out: times.append(self._layer(m, out))) for m in layers]
        with torch.no_grad():
            net(torch.zeros(tuple(input_shape)))
        for handle in handles:
            handle.remove()
        return (sum(times) + 0.02) * next(self.signs)

    def _layer(self, layer: nn.Module, out: Tensor) -> float:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        first, second = (math.ceil(size / self.step) * self.step for size in weight.shape[:2])
        transposed = isinstance(layer, nn.ConvTranspose2d)
        filters = weight.shape[1 if transposed else 0]
        positions = out.numel() / filters / (layer.stride[0] ** 2 if transposed else 1)  # type: ignore[operator]
        return 1e-6 * first * second * math.prod(weight.shape[2:]) * positions + 1e-6 * out.numel()
