"""What a network costs: multiply-accumulates and parameters."""

import contextlib
import copy
import io
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import ptflops
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.pruning.example import Example, Like


@dataclass(frozen=True)
class Complexity:
    """The cost of one forward pass of one image.

    Attributes:
        gmacs: 10⁹ multiply-accumulates in convolutions and matrix products, a bias counting one per output value.
            Literature on polyp segmentation calls this number "FLOPs".
        params_used: parameters that the forward pass reads. Some smp encoders own layers that are never executed.
        params_total: all parameters of the network.
    """

    gmacs: float
    params_used: int
    params_total: int


def measure(net: nn.Module, example: int | Like) -> Complexity:
    """Counts MACs and parameters of a network for one image, or one item of whatever it is called with.

    One real forward pass of a copy, in evaluation mode and without hooks, on the network's device: the network itself,
    its mode and what is registered on it stay as they are.

    Args:
        net: the network.
        example: what it is called with, as for :func:`~polyp_lightning.pruning.trace`; or the side in pixels of a
            square RGB image.

    Raises:
        ConfigError: the forward pass failed; the message holds what ptflops printed.

    >>> measure(nn.Conv2d(3, 8, 3, padding=1, bias=False), 10)
    Complexity(gmacs=2.16e-05, params_used=216, params_total=216)
    """
    call = Example.of((1, 3, example, example) if isinstance(example, int) else example).one_item()
    twin = _bare_copy(net)
    printed = io.StringIO()
    seen = _SeenParameters(twin)
    # ptflops does not know the fused attention kernels; the plain one consists of matrix products, which it counts.
    quiet = contextlib.ExitStack()
    with quiet, torch.no_grad(), sdpa_kernel(SDPBackend.MATH), seen:
        quiet.enter_context(contextlib.redirect_stdout(printed))
        quiet.enter_context(contextlib.redirect_stderr(printed))
        macs, _ = ptflops.get_model_complexity_info(
            _Called(twin, call), (1,), print_per_layer_stat=False, as_strings=False, backend="aten"
        )
    if macs is None:
        lines = printed.getvalue().strip().splitlines()
        msg = f"The cost of {type(net).__name__} for {call} can't be measured. {' '.join(lines[:2])}"
        raise ConfigError(msg)
    used = sum(p.numel() for p in twin.parameters() if id(p) in seen.met)
    return Complexity(float(macs) / 1e9, used, sum(p.numel() for p in twin.parameters()))


class _Called(nn.Module):
    """A network as ptflops calls one, with a tensor that is not used."""

    def __init__(self, net: nn.Module, example: Example) -> None:
        super().__init__()
        self.net = net
        # The network's floats, whatever type the example was recorded in.
        kind = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
        self.example = example.to(kind.device, kind.dtype)

    def forward(self, _: torch.Tensor) -> Any:
        return self.example.call(self.net)


class _SeenParameters(TorchDispatchMode):
    """Notes which parameters of a network reach an operation."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {id(p) for p in net.parameters()}
        self.met: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
            if id(leaf) in self.known:
                self.met.add(id(leaf))
        return func(*args, **(kwargs or {}))


def _bare_copy(net: nn.Module) -> nn.Module:
    """A deep copy without hooks: a copied hook would still fire, and copying one copies whatever it is bound to."""
    memo: dict[int, Any] = {}
    for module in net.modules():
        for name, value in vars(module).items():
            if "_hooks" in name and isinstance(value, dict):
                memo[id(value)] = OrderedDict()
    return copy.deepcopy(net, memo)
