"""Random order: how much any criterion gains at all."""

from typing import ClassVar

import numpy as np
from torch import nn

from polyp_lightning.pruning.criteria.base import Criterion, Importance
from polyp_lightning.pruning.graph import ChannelGraph


class RandomOrder(Criterion):
    """A random order, the same for the same seed and number of components.

    The control that criteria often fail to beat once the network is trained on: "Recovering from Random Pruning",
    Mittal et al., WACV 2018 (arXiv:1801.10447).

    Args:
        seed: of the order.
    """

    name: ClassVar[str] = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns numbers drawn uniformly from [0, 1)."""
        return np.random.default_rng(self.seed).random(graph.size)
