"""FPGM: filters near the geometric median of their layer go first, because others can stand in for them."""

from typing import ClassVar

import numpy as np
from scipy.spatial.distance import cdist
from torch import nn

from polyp_lightning.pruning.criteria.base import Criterion, Importance
from polyp_lightning.pruning.criteria.filters import Values, importance_by_filter
from polyp_lightning.pruning.graph import ChannelGraph


class FPGM(Criterion):
    """Σ_j ‖w_i − w_j‖₂ over all filters j of the layer.

    "Filter Pruning via Geometric Median for Deep Neural Networks Acceleration", He et al., CVPR 2019
    (doi:10.1109/CVPR.2019.00447), who rank within a layer; see :mod:`~polyp_lightning.pruning.criteria.filters` for how
    layers are compared and coupled. Frozen filters of the layer count among the others. Components that no convolution
    or linear layer makes come last.
    """

    name: ClassVar[str] = "fpgm"

    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns distances to the other filters: their mean over coupled layers, relative to the mean of the group."""
        return importance_by_filter(net, graph, self.name, distances)


def distances(matrix: Values) -> Values:
    """Returns the sum of each row's Euclidean distances to all others: (filters, weights) → (filters,)."""
    return np.asarray(cdist(matrix, matrix).sum(1), np.float64)
