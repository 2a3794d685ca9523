"""Batch-norm scale: channels that their batch norm makes small go first."""

from typing import ClassVar

import numpy as np
import torch
from torch import nn

from polyp_lightning.pruning.criteria.base import Criterion, Importance
from polyp_lightning.pruning.criteria.filters import mean_per_component, put_unseen_last
from polyp_lightning.pruning.graph import ChannelGraph


class BatchNormScale(Criterion):
    """|γ| of the batch norms that a component passes: "Network Slimming", Liu et al., ICCV 2017.

    doi:10.1109/ICCV.2017.298. As there, all layers are compared by |γ| itself, because batch norm gives them a common
    scale; a component behind several batch norms (a residual stream, an expansion with its depthwise convolution) gets
    the mean. Liu et al. train with an L1 penalty on γ; without one, the γ of a network say less. Components without a
    batch norm, or with one that has no γ, come last.
    """

    name: ClassVar[str] = "bn_scale"

    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns the mean |γ| of each component.

        Raises:
            PruningError: no component passes a batch norm.
        """
        scales = (
            (graph.axes[name][0], np.abs(scale.detach().to("cpu", torch.float64).numpy()))
            for module_name, module in net.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and (scale := module.weight) is not None
            and (name := f"{module_name}.weight") in graph.axes
        )
        return put_unseen_last(*mean_per_component(scales, graph.size), self.name)
