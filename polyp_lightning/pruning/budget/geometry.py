"""The layers of a network as a latency table knows them: everything their time depends on but their widths."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polyp_lightning.pruning.graph import ChannelGraph
from polyp_lightning.pruning.labels import FROZEN


@dataclass(frozen=True)
class Geometry:
    """A convolution or linear layer without its widths.

    Attributes:
        kind: ``conv``, ``transposed`` or ``linear``.
        size: (H, W) of the input, or the number of rows that a linear layer multiplies.
        kernel: size of the kernel.
        stride: of the kernel.
        padding: of the input.
        dilation: of the kernel.
        groups: 1; the number of groups where their number stays; or 0 where whole groups go.
        per_group: filters per group where whole groups go, else 0.
    """

    kind: str
    size: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    per_group: int = 0

    @property
    def key(self) -> str:
        """A name for tables.

        >>> Geometry("conv", (96, 96), (3, 3), (1, 1), (1, 1), (1, 1), 0, 1).key
        'conv at 96x96, kernel 3x3, stride 1x1, padding 1x1, dilation 1x1, groups of 1'
        """
        parts = [f"{self.kind} at {_times(self.size)}"]
        if self.kind != "linear":
            shape = {"kernel": self.kernel, "stride": self.stride, "padding": self.padding, "dilation": self.dilation}
            parts += [f"{name} {_times(values)}" for name, values in shape.items()]
        if self.groups != 1:
            parts.append(f"{self.groups} groups" if self.groups else f"groups of {self.per_group}")
        return ", ".join(parts)

    def layer(self, first: int, second: int) -> tuple[nn.Module, tuple[int, ...]]:
        """Makes a layer whose weight begins with the dimensions ``first`` × ``second``, and the shape of its input."""
        if self.kind == "linear":
            return nn.Linear(second, first), (1, *self.size, second)
        options: dict[str, Any] = {"kernel_size": self.kernel, "stride": self.stride, "padding": self.padding}
        options["dilation"] = self.dilation
        if self.kind == "transposed":
            return nn.ConvTranspose2d(first, second, **options), (1, first, *self.size)
        groups = self.groups or max(1, first // self.per_group)
        inputs, outputs = groups * second, max(1, first // groups) * groups
        return nn.Conv2d(inputs, outputs, groups=groups, **options), (1, inputs, *self.size)


@dataclass(frozen=True)
class LayerCall:
    """One execution of a layer.

    Attributes:
        weight: name of its weight.
        geometry: what it is but for its widths.
        positions: output values per filter and image.
        output_dim: the dimension of the weight along which its filters are.
    """

    weight: str
    geometry: Geometry
    positions: int
    output_dim: int


def layer_calls(net: nn.Module, graph: ChannelGraph, input_shape: Sequence[int]) -> list[LayerCall]:
    """Returns the convolutions (2-D) and linear layers that one image runs through, in order.

    Args:
        net: the network that was traced; a copy of it runs once.
        graph: its graph, which tells how grouped convolutions shrink.
        input_shape: (1, C, H, W).
    """
    twin = copy.deepcopy(net).to("cpu").eval()
    calls: list[LayerCall] = []
    for name, module in twin.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            weight = f"{name}.weight"
            module.register_forward_hook(lambda m, args, out, w=weight: _note(calls, m, args, out, w, graph))
    with torch.no_grad():
        twin(torch.zeros(tuple(input_shape), dtype=next(twin.parameters()).dtype))
    return calls


def _note(calls: list[LayerCall], module: Any, args: Any, out: Tensor, weight: str, graph: ChannelGraph) -> None:
    if weight not in graph.axes or not args or (isinstance(module, nn.ConvTranspose2d) and module.groups > 1):
        return
    output_dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
    filters = module.weight.shape[output_dim]
    calls.append(LayerCall(weight, _geometry(module, args[0], weight, graph), out.numel() // filters, output_dim))


def _geometry(module: Any, x: Tensor, weight: str, graph: ChannelGraph) -> Geometry:
    if isinstance(module, nn.Linear):
        return Geometry("linear", (math.prod(x.shape[:-1]),))
    whole = module.groups > 1 and not (graph.axes[weight][1] != FROZEN).any()
    padding = module.padding if isinstance(module.padding, tuple) else tuple(k // 2 for k in module.kernel_size)
    kind = "transposed" if isinstance(module, nn.ConvTranspose2d) else "conv"
    groups, per_group = (0, module.out_channels // module.groups) if whole else (module.groups, 0)
    shape = (module.kernel_size, module.stride, padding, module.dilation)
    return Geometry(kind, tuple(x.shape[2:]), *shape, groups, per_group)


def _times(values: Sequence[int]) -> str:
    return "x".join(str(value) for value in values)
