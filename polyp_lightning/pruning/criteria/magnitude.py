"""Magnitude: filters with small weights go first."""

from typing import ClassVar

import numpy as np
from torch import nn

from polyp_lightning.pruning.criteria.base import Criterion, Importance
from polyp_lightning.pruning.criteria.filters import importance_by_filter
from polyp_lightning.pruning.graph import ChannelGraph


class _Magnitude(Criterion):
    order: ClassVar[int]

    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns norms of filters: their mean over coupled layers, relative to the mean of the group.

        Components that no convolution or linear layer makes come last.
        """
        return importance_by_filter(
            net, graph, self.name, lambda matrix: np.linalg.norm(matrix, ord=self.order, axis=1)
        )


class MagnitudeL1(_Magnitude):
    """Σ |w| over the weights of a filter: "Pruning Filters for Efficient ConvNets", Li et al., ICLR 2017.

    arXiv:1608.08710. Li et al. rank within a layer; see :mod:`~polyp_lightning.pruning.criteria.filters` for how layers
    are compared and coupled.
    """

    name: ClassVar[str] = "magnitude_l1"
    order: ClassVar[int] = 1


class MagnitudeL2(_Magnitude):
    """√Σ w² over the weights of a filter: "Soft Filter Pruning", He et al., IJCAI 2018.

    arXiv:1808.06866. He et al. rank within a layer; see :mod:`~polyp_lightning.pruning.criteria.filters` for how layers
    are compared and coupled.
    """

    name: ClassVar[str] = "magnitude_l2"
    order: ClassVar[int] = 2
