"""The run-time proof that a removal is exact: masked net = pruned net, in float64."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.example import Example, Like
from polyp_lightning.pruning.fake_copy import detached
from polyp_lightning.pruning.graph import ChannelGraph, Removed
from polyp_lightning.pruning.surgery import mask, remove

TOLERANCE = 1e-9


def removal_error(net: nn.Module, graph: ChannelGraph, removed: Removed, example: Like) -> float:
    """Largest difference between the outputs of the masked and of the pruned network, relative to the largest output.

    Works on float64 copies in eval mode; ``net`` is not touched.

    Args:
        net: the network that was traced.
        graph: its graph.
        removed: the components to remove.
        example: what to call it with, as for :func:`~polyp_lightning.pruning.tracing.trace.trace`; of a shape alone the
            values are drawn.

    Returns:
        max |masked − pruned| ÷ max(1, max |masked|); of all outputs if there are several.
    """
    given = Example.of(example)
    pruned = copy.deepcopy(net, detached(net)).to("cpu", torch.float64).eval()
    masked = copy.deepcopy(pruned)
    remove(pruned, graph, removed)
    mask(masked, graph, removed)
    with torch.no_grad():
        # Two copies: the network may write into its inputs.
        expected, got = (given.to("cpu", torch.float64).call(one) for one in (masked, pruned))
    pairs = zip(_tensors(expected), _tensors(got), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1.0)) for a, b in pairs)


def assert_exact(net: nn.Module, graph: ChannelGraph, removed: Removed, example: Like) -> float:
    """:func:`removal_error`, refused above 1e-9.

    Raises:
        PruningError: removing is not the same as masking in this network.
    """
    error = removal_error(net, graph, removed, example)
    if not error <= TOLERANCE:
        msg = (
            f"removing these channels is not the same as masking them (difference {error:.2e}, allowed "
            f"{TOLERANCE:.0e}); the network does something the trace does not see. Please report it with its code"
        )
        raise PruningError(msg)
    return error


def _tensors(out: Any) -> list[Tensor]:
    return [t.double() for t in tree_leaves(out) if isinstance(t, Tensor)]
