"""Uniform width: every layer keeps the same share of its filters."""

from typing import ClassVar

import numpy as np
from torch import nn

from polyp_lightning.pruning.criteria.base import Criterion, Importance
from polyp_lightning.pruning.criteria.magnitude import MagnitudeL1
from polyp_lightning.pruning.graph import ChannelGraph


class UniformWidth(Criterion):
    """A width multiplier on a trained network: every group of coupled layers keeps the same share of its components.

    Width multipliers are those of "MobileNets", Howard et al. 2017 (arXiv:1704.04861). The order within a group is that
    of the L1 magnitude; components of a group that it does not see go by number.
    """

    name: ClassVar[str] = "uniform"

    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns k/n for the k-th least of a group of n: a threshold over all groups leaves each the same share."""
        magnitude = MagnitudeL1().importance(net, graph)
        result = np.zeros(graph.size)
        for group in graph.groups:
            order = group.components[np.argsort(magnitude[group.components], kind="stable")]
            result[order] = np.arange(1, len(order) + 1) / len(order)
        return result
