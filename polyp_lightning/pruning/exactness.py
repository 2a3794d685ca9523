"""The run-time proof that a removal is exact: masked net = pruned net, in float64."""

import copy

import torch
from torch import Tensor, nn

from polyp_lightning.errors import PruningError
from polyp_lightning.pruning.graph import ChannelGraph, Removed
from polyp_lightning.pruning.surgery import mask, remove

TOLERANCE = 1e-9


def removal_error(net: nn.Module, graph: ChannelGraph, removed: Removed, images: Tensor) -> float:
    """Largest difference between the outputs of the masked and of the pruned network, relative to the largest output.

    Works on float64 copies in eval mode; ``net`` is not touched.

    Args:
        net: the network that was traced.
        graph: its graph.
        removed: the components to remove.
        images: (N, C, H, W), any float dtype.

    Returns:
        max |masked − pruned| ÷ max(1, max |masked|).
    """
    pruned = _reference_copy(net)
    masked = copy.deepcopy(pruned)
    remove(pruned, graph, removed)
    mask(masked, graph, removed)
    with torch.no_grad():
        images = images.detach().to("cpu", torch.float64)
        expected, got = masked(images), pruned(images)
    return float((expected - got).abs().max() / expected.abs().max().clamp_min(1.0))


def assert_exact(net: nn.Module, graph: ChannelGraph, removed: Removed, images: Tensor) -> float:
    """:func:`removal_error`, refused above 1e-9.

    Raises:
        PruningError: removing is not the same as masking in this network.
    """
    error = removal_error(net, graph, removed, images)
    if not error <= TOLERANCE:
        msg = (
            f"removing these channels is not the same as masking them (difference {error:.2e}, allowed "
            f"{TOLERANCE:.0e}); the network does something the trace does not see. Please report it with its code"
        )
        raise PruningError(msg)
    return error


def _reference_copy(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net).to("cpu", torch.float64).eval()
