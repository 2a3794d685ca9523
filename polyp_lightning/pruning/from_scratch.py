"""A network with the widths of a pruned one and none of its weights: the control of pruning that is seldom shown."""

from typing import Any

import torch
from torch import Tensor, nn

from polyp_lightning.pruning import rebuild
from polyp_lightning.pruning.surgery import named_tensors


def narrow(fresh: nn.Module, plan: dict[str, Any]) -> nn.Module:
    """Gives a dense network the shapes of a plan, and random weights as a network of those widths would be given.

    Each cut tensor is the beginning of the dense one's, as the libraries drew it, so that constants, such as those of
    batch norm, stay what they are. Convolutions are rescaled, since their spread depends on the width: that of He et
    al., 2015 (arXiv:1502.01852), goes with 1/√(filters·k²/groups), as in the encoders of torchvision and timm. Decoder
    and head are then drawn anew by smp's own ``initialize``.

    Args:
        fresh: the dense network as its factory makes it, with random weights; changed in place.
        plan: as :func:`~polyp_lightning.pruning.describe` returned it.

    Raises:
        PruningError: the plan belongs to another architecture.
    """
    dense = {name: tensor.detach().clone() for name, tensor in named_tensors(fresh)}
    spread = _spreads(fresh)
    net = rebuild(fresh, plan)
    with torch.no_grad():
        for name, tensor in named_tensors(net):
            tensor.copy_(dense[name][tuple(slice(size) for size in tensor.shape)])
        for name, before in spread.items():
            conv = net.get_submodule(name)
            if isinstance(conv, nn.Conv2d):
                conv.weight.mul_(_spread(conv) / before)
    initialize = getattr(net, "initialize", None)
    if callable(initialize):
        initialize()
    return net


def _spreads(net: nn.Module) -> dict[str, float]:
    return {name: _spread(layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)}


def _spread(conv: nn.Conv2d) -> float:
    """Standard deviation up to a factor that does not depend on the width."""
    weight: Tensor = conv.weight
    return float((weight.shape[0] * weight.shape[2] * weight.shape[3] / conv.groups) ** -0.5)
