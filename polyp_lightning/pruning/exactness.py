"""The run-time proof that a removal is exact: masked net = pruned net, in float64."""

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from polyp_lightning.common.errors import PruningError, listed
from polyp_lightning.pruning.graph import ChannelGraph, Removed
from polyp_lightning.pruning.surgery import mask, remove

TOLERANCE = 1e-9


def removal_error(
    net: nn.Module, graph: ChannelGraph, removed: Removed, images: Tensor, *, fewer_in_norms: bool = False
) -> float:
    """Largest difference between the outputs of the masked and of the pruned network, relative to the largest output.

    Works on float64 copies in eval mode; ``net`` is not touched.

    Args:
        net: the network that was traced.
        graph: its graph.
        removed: the components to remove.
        images: (N, C, H, W), any float dtype.
        fewer_in_norms: let the masked network's layer norms that are in ``graph.inexact`` leave masked channels out of
            their statistics, as the pruned ones do: what then is left of the difference is due to something else.

    Returns:
        max |masked − pruned| ÷ max(1, max |masked|); of all outputs if there are several.
    """
    pruned = _reference_copy(net)
    masked = copy.deepcopy(pruned)
    remove(pruned, graph, removed)
    mask(masked, graph, removed)
    fewer = _fewer_in_norms(masked, graph, removed) if fewer_in_norms else nullcontext()
    with torch.no_grad():
        images = images.detach().to("cpu", torch.float64)
        with fewer:
            expected = masked(images)
        got = pruned(images)
    pairs = zip(_tensors(expected), _tensors(got), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1.0)) for a, b in pairs)


def assert_exact(net: nn.Module, graph: ChannelGraph, removed: Removed, images: Tensor) -> float:
    """:func:`removal_error`, refused above 1e-9.

    Raises:
        PruningError: removing is not the same as masking in this network.
    """
    error = removal_error(net, graph, removed, images)
    if not error <= TOLERANCE:
        why = "the network does something the trace does not see. Please report it with its code"
        if graph.inexact:
            names = listed(sorted(graph.inexact))
            why = f"the graph was traced with inexact=('layer_norm',), which lets channels leave these norms: {names}"
        msg = (
            f"removing these channels is not the same as masking them (difference {error:.2e}, allowed "
            f"{TOLERANCE:.0e}); {why}"
        )
        raise PruningError(msg)
    return error


def _reference_copy(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net).to("cpu", torch.float64).eval()


def _tensors(out: Any) -> list[Tensor]:
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


class _FewerInNorms(TorchFunctionMode):
    """Layer norms of the weights given take mean and variance over the kept channels alone."""

    def __init__(self, kept: dict[int, Tensor]) -> None:
        super().__init__()
        self._kept = kept

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = dict(zip(("input", "normalized_shape", "weight", "bias", "eps"), args, strict=False)) | kwargs
        if func not in (torch.layer_norm, nn.functional.layer_norm) or id(given.get("weight")) not in self._kept:
            return func(*args, **kwargs)
        x, kept = given["input"], self._kept[id(given["weight"])]
        weight, bias = (None if given.get(k) is None else given[k][kept] for k in ("weight", "bias"))
        out = torch.zeros_like(x)
        out[..., kept] = nn.functional.layer_norm(x[..., kept], (len(kept),), weight, bias, given.get("eps", 1e-5))
        return out


def _fewer_in_norms(masked: nn.Module, graph: ChannelGraph, removed: Removed) -> _FewerInNorms:
    weights = {name: masked.get_parameter(f"{name}.weight") for name in graph.inexact}
    return _FewerInNorms(
        {
            id(w): torch.as_tensor((~removed[graph.axes[f"{name}.weight"][0]]).nonzero()[0])
            for name, w in weights.items()
        }
    )
